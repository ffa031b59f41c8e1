"""MLflow from Apache Airflow: hooks and operators for tracking and the model registry."""

__version__ = "2.0.0"
