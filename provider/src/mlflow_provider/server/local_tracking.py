"""Warn about a tracking URI on the worker's disk, where neither MLflow nor other tasks find a run."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import AbstractContextManager

from mlflow_provider.process.environment import environment, set_environment
from mlflow_provider.server.findings import LOCAL_TRACKING_URI, Finding

log = logging.getLogger(__name__)

# Set by Airflow for a task and the programs that it starts.
_TASK = ("AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_DAG_RUN_ID", "AIRFLOW_CTX_TASK_ID", "AIRFLOW_CTX_TRY_NUMBER")
_WARNED = "AIRFLOW_MLFLOW_WARNED"  # the task that has been warned; inherited by the programs it starts


class LocalTrackingURIError(BaseException):
    """Fails a task because its runs would be lost: ``[mlflow] on_local_tracking_uri`` is ``fail``.

    Not an ``Exception``, because MLflow would log it as a warning and continue.
    """


def is_in_task() -> bool:
    """Return whether this process runs a task of Airflow, or was started by one."""
    return _TASK[0] in os.environ


def find() -> Finding | None:
    """Return a finding if the ``mlflow`` package writes to this worker's disk, unless the user allows it."""
    import mlflow

    uri = mlflow.get_tracking_uri()
    scheme = uri.partition(":")[0]
    is_local = scheme.startswith(("file", "sqlite")) or (scheme == uri and uri not in ("databricks", "uc"))
    return LOCAL_TRACKING_URI.format(uri=uri) if is_local and _setting() != "ignore" else None


def warn() -> None:
    """Log a warning, once for each task, if the ``mlflow`` package writes to this worker's disk.

    :raises LocalTrackingURIError: it does, and Airflow's setting demands a failure.
    """
    if os.environ.get(_WARNED) == _task() or not (finding := find()):
        return
    if _setting() == "fail":
        raise LocalTrackingURIError(f"{finding}.")
    log.warning("%s.", finding)
    set_environment({_WARNED: _task()})


def allowed() -> AbstractContextManager[None]:
    """Let the ``mlflow`` package write to this worker's disk for the duration of a block."""
    return environment({_WARNED: _task()})


def _task() -> str:
    return "/".join(os.environ.get(name, "") for name in _TASK)


def _setting() -> str:
    if "airflow" not in sys.modules:  # a program, whose output would change if it imported Airflow
        return os.environ.get("AIRFLOW__MLFLOW__ON_LOCAL_TRACKING_URI", "warn")
    from airflow.providers.common.compat.sdk import conf

    return conf.get("mlflow", "on_local_tracking_uri", fallback="warn")
