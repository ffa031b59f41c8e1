"""Tag every run that the ``mlflow`` package starts in a task, so that it leads back to Airflow.

MLflow calls this when it starts a run; see the entry point ``mlflow.run_context_provider``.

.. seealso:: https://mlflow.org/docs/latest/ml/plugins/
"""

from __future__ import annotations

import sys


class AirflowRunContext:
    """The task of this process, as MLflow's ``RunContextProvider``.

    Not a subclass, because that would import ``mlflow``.
    """

    def in_context(self) -> bool:
        """Return whether this process runs a task of Airflow."""
        if "airflow.sdk" not in sys.modules:
            return False
        from airflow.sdk import get_current_context

        try:
            get_current_context()
        except RuntimeError:
            return False
        return True

    def tags(self) -> dict[str, str]:
        """Return the tags of the task and its DAG run."""
        from airflow.sdk import get_current_context

        from mlflow_provider.tracking import task_instance

        return task_instance.tags(get_current_context())
