"""Listeners: what Airflow calls when its processes start."""
