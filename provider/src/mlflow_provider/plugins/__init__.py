"""Airflow plugin: pages about MLflow in Airflow's UI."""
