"""Ends runs that are still open when nothing of their DAG run can end them any more."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.server import limits
from mlflow_provider.server.deadline import run_with_timeout
from mlflow_provider.tracking import parent_run, runs

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

REASON = "left open when its DAG run ended: its process was killed, or MLflow did not answer"


def close_open_runs(context: Context, mlflow_conn_id: str = MLflowClientHook.default_conn_name) -> None:
    """End the MLflow runs of a DAG run that are still RUNNING; a callback for the end of the DAG run.

    A process that is killed cannot end its run, and a task without retries left has no next try that could.
    DAGs with ``@task.mlflow`` get this callback automatically; where tasks use
    :func:`mlflow_provider.task_run`, give the DAG
    ``on_failure_callback=close_open_runs`` and ``on_success_callback=close_open_runs``.

    It takes five seconds at most, as other callbacks wait for it. What it could not end is in the log.

    :param context: the context of the DAG run.
    :param mlflow_conn_id: connection to the server.
    """
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    try:
        hook = MLflowClientHook(mlflow_conn_id=mlflow_conn_id)
        hook = hook.with_limits(limits.OUTSIDE_TASK, reread_login=False)
        run_with_timeout(partial(_close, hook, runs.of_dag_run(dag_id, run_id), context.get("dag_run")))
    except MLflowProviderError as error:
        log.warning("MLflow runs of %s, DAG run %s, may be left RUNNING: %s", dag_id, run_id, error)


def _close(hook: MLflowClientHook, of_dag_run: str, dag_run: Any) -> None:
    found = runs.search(hook, f"{of_dag_run} AND attributes.status = 'RUNNING'")
    open_runs = [run for run in found if not _is_newer(run, dag_run)]
    parents = [run for run in open_runs if parent_run.TAG in runs.tags_of(run)]
    for run in open_runs:
        if run not in parents:
            runs.kill(hook, run["info"]["run_id"], REASON)
    # A parent is open, too, if a child failed that was to be tried again, and never was.
    has_failed = getattr(dag_run, "state", None) == "failed"
    for parent in parents:
        info = parent["info"]
        parent_run.end_if_children_ended(
            hook, info["experiment_id"], info["run_id"], otherwise="FAILED" if has_failed else "FINISHED"
        )


def _is_newer(run: dict[str, Any], dag_run: Any) -> bool:
    """Tell whether a run began after tasks were cleared, and the callback comes late."""
    if dag_run is None:  # Airflow does not know the last task, and so tells nothing of the DAG run
        return False
    return int(runs.tags_of(run).get(runs.CLEAR_NUMBER, 0)) > (dag_run.clear_number or 0)
