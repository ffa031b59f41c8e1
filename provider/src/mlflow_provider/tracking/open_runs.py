"""End runs that are still open when their DAG run has ended."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import BaseHook

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.server.connection import MLflowConnection
from mlflow_provider.server.deadline import run_with_timeout
from mlflow_provider.server.limits import OUTSIDE_TASK
from mlflow_provider.tracking import parent_run, runs

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlflow_provider.tracking.run import Run

log = logging.getLogger(__name__)

REASON = "left open when its DAG run ended: its process was killed, or MLflow did not respond"


def close_open_runs(context: Context, mlflow_conn_id: str = MLflowClientHook.default_conn_name) -> None:
    """End the MLflow runs of a DAG run that are still RUNNING; a callback for the end of the DAG run.

    A process that is killed cannot end its run, and a task without retries has no next try that could.
    DAGs with ``@task.mlflow`` get this callback automatically; where tasks use
    :func:`mlflow_provider.task_run`, give the DAG
    ``on_failure_callback=close_open_runs`` and ``on_success_callback=close_open_runs``.

    It times out after five seconds, because other callbacks wait for it. Runs that it could not end are in
    the log.

    :param context: the context of the DAG run.
    :param mlflow_conn_id: connection to the server.
    """
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    try:
        # This reads the connection here; the thread must not.
        connection = MLflowConnection.read(mlflow_conn_id, _get_connection)
        hook = MLflowClientHook.for_connection(connection).with_limits(OUTSIDE_TASK, reread_login=False)
        close = partial(_close, hook, runs.dag_run_filter(dag_id, run_id), context.get("dag_run"))
        run_with_timeout(close)
    except MLflowProviderError as error:
        log.warning("MLflow runs of %s, DAG run %s, may be left RUNNING: %s", dag_id, run_id, error)


def _get_connection(conn_id: str) -> Any:
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        # `airflow dags test` calls the callback outside of a task, where only Airflow's own class finds the
        # connections in its database.
        from airflow.models import Connection

        return Connection.get_connection_from_secrets(conn_id)


def _close(hook: MLflowClientHook, dag_run_filter: str, dag_run: Any) -> None:
    running = runs.search_everywhere(hook, f"{dag_run_filter} AND attributes.status = 'RUNNING'")
    open_runs = [run for run in running if not _is_newer(run, dag_run)]
    parents = [run for run in open_runs if parent_run.TAG in run.tags]
    for run in open_runs:
        if run not in parents:
            runs.kill(hook, run.run_id, REASON)
    # A parent also stays open when a failed child was never retried. It has finished when the task that
    # failed never got a run.
    status = "FINISHED"
    if getattr(dag_run, "state", None) == "failed":
        status = "FAILED"
        finished = f"{dag_run_filter} AND tags.`{parent_run.TAG}` LIKE '%' AND attributes.status = 'FINISHED'"
        parents += runs.search_everywhere(hook, finished)
    for parent in parents:
        parent_run.end_if_children_ended(hook, parent.experiment_id, parent.run_id, otherwise=status)


def _is_newer(run: Run, dag_run: Any) -> bool:
    """Return whether a run began after tasks were cleared, which happens if the callback is late."""
    if dag_run is None:  # Airflow leaves it out if it does not know the last task
        return False
    return int(run.tags.get(runs.CLEAR_NUMBER, 0)) > (dag_run.clear_number or 0)
