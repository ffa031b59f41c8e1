"""Hooks: MLflow's REST API and its Python package, with an Airflow connection."""
