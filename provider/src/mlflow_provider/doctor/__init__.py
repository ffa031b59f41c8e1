"""Find out why artifacts get lost between a task and MLflow, and how to fix it.

On the command line, where Airflow is installed::

    python -m mlflow_provider.doctor

In a task, :func:`examine` does the same where tasks run.
"""

from mlflow_provider.doctor.checks import examine
from mlflow_provider.doctor.examination import Result

__all__ = ["Result", "examine"]
