"""Every difference between the Airflow versions the provider supports."""

try:
    from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException
except ImportError:  # Airflow 3.1: the exceptions have not moved to the SDK yet
    from airflow.exceptions import AirflowException, AirflowNotFoundException

__all__ = ["AirflowException", "AirflowNotFoundException"]
