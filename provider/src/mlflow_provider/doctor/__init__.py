"""Finds out why artifacts get lost between a task and MLflow, and says what to do about it.

On a command line, where Airflow is installed::

    python -m mlflow_provider.doctor

In a task, :func:`examine` does the same from where tasks run.
"""

from mlflow_provider.doctor.checks import examine
from mlflow_provider.doctor.examination import Result

__all__ = ["Result", "examine"]
