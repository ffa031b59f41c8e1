"""End the log of a failed task with the fix, if an error of the ``mlflow`` package does not name it.

The errors of this provider name their fix themselves.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)


@hookimpl
def on_task_instance_failed(error: Any) -> None:
    """Log the fix. Airflow calls this in the process of the task; elsewhere without an exception."""
    from mlflow_provider.exceptions import MLflowProviderError, chain
    from mlflow_provider.process import local_tracking
    from mlflow_provider.server.findings import NOT_FOUND
    from mlflow_provider.server.package_errors import cause_of

    if not isinstance(error, BaseException) or isinstance(error, MLflowProviderError):
        return
    finding = cause_of(error)
    if finding and finding.code == NOT_FOUND.code:
        is_from_server = any(type(each).__name__ == "RestException" for each in chain(error))
        finding = finding if is_from_server else local_tracking.find() or finding
    if finding:
        log.info("::endgroup::")  # of "Post Execute", which Airflow's page does not expand
        log.error("%s.", finding)
