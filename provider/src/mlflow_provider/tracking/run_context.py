"""Tag every run that the ``mlflow`` package starts in a task, so that it leads back to Airflow.

MLflow calls this when it starts a run; see the entry point ``mlflow.run_context_provider``.

.. seealso:: https://mlflow.org/docs/latest/ml/plugins/
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mlflow_provider.process import local_tracking
from mlflow_provider.tracking import shared_run

if TYPE_CHECKING:
    from airflow.sdk import Context


class AirflowRunContext:
    """The task of this process, as MLflow's ``RunContextProvider``.

    Not a subclass, because that would import ``mlflow``.
    """

    def __init__(self) -> None:
        shared_run.join()

    def in_context(self) -> bool:
        """Return whether this process runs a task of Airflow, or was started by one."""
        return local_tracking.is_in_task() or shared_run.VARIABLE in os.environ

    def tags(self) -> dict[str, str]:
        """Return the tags of the task and its DAG run; warn if the run is not logged to a server.

        :raises LocalTrackingURIError: it is not, and Airflow's setting demands a failure.
        """
        local_tracking.warn()
        if shared := shared_run.SharedRun.from_environment():
            parent = {} if shared.is_this_process else {shared_run.PARENT_RUN_ID: shared.run_id}
            return {**shared.tags, **parent}
        if not (context := _context()):
            return {}
        from mlflow_provider.tracking import task_instance

        return {**task_instance.description(context), **task_instance.tags(context)}


def _context() -> Context | None:
    """Return the context of the task; None in a program that a task has started."""
    if "airflow.sdk" not in sys.modules:
        return None
    from airflow.sdk import get_current_context

    try:
        return get_current_context()
    except RuntimeError:
        return None
