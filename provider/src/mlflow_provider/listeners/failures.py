"""What follows the failure of a task, in its process: its run says so, and its log ends with the fix."""

from __future__ import annotations

import logging
import sys
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)


@hookimpl
def on_task_instance_failed(task_instance: Any, error: Any) -> None:
    """Let the task's run and its log say what is known.

    :param error: why the task failed. Outside of the task's process, and for some failures after the
        function has returned, Airflow has no exception.
    """
    if task_run := sys.modules.get("mlflow_provider.tracking.task_run"):
        task_run.correct_end(task_instance, error)
    if isinstance(error, BaseException):
        _log_fix(error)


def _log_fix(error: BaseException) -> None:
    """Log the fix for an error of the ``mlflow`` package; the errors of this provider name theirs."""
    from mlflow_provider.exceptions import MLflowProviderError, chain
    from mlflow_provider.server import local_tracking
    from mlflow_provider.server.findings import NOT_FOUND
    from mlflow_provider.server.package_errors import cause_of

    if isinstance(error, MLflowProviderError):
        return
    finding = cause_of(error)
    if finding and finding.code == NOT_FOUND.code:
        is_from_server = any(type(each).__name__ == "RestException" for each in chain(error))
        finding = finding if is_from_server else local_tracking.find() or finding
    if finding:
        log.info("::endgroup::")  # of "Post Execute", which Airflow's page does not expand
        log.error("%s.", finding)
