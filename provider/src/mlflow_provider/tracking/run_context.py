"""Gives runs that the ``mlflow`` package creates in a task, in whatever way, the tags that lead to Airflow.

MLflow asks this when it starts a run, see the entry point ``mlflow.run_context_provider``.

.. seealso:: https://mlflow.org/docs/latest/ml/plugins/
"""

from __future__ import annotations

import sys


class AirflowRunContext:
    """The task that a process works on, as MLflow's ``RunContextProvider``.

    Not a subclass of that: it would import ``mlflow``.
    """

    def in_context(self) -> bool:
        """Return whether the process works on a task of Airflow."""
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

        from mlflow_provider.tracking.task_run import tags_of_task

        return tags_of_task(get_current_context())
