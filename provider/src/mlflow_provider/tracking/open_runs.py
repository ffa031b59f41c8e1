"""End runs that are still open when their DAG run has ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
from mlflow_provider.version_compat import CALLBACKS_CAN_QUERY_TASKS

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
REASON = "left open when its DAG run ended: its process was killed, or MLflow did not respond"


def close_open_runs(context: Context, mlflow_conn_id: str = MLflowClientHook.default_conn_name) -> None:
    """End the MLflow runs of a DAG run that are still RUNNING; a callback for the end of the DAG run.

    A process that is killed cannot end its run, and a task without retries has no next try that could.
    The callback also ends what earlier DAG runs of the DAG left open, e.g. because MLflow was down when they
    ended (with Airflow 3.2 and later).
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
        # This reads the connection here; the thread must not, nor query Airflow.
        connection = MLflowConnection.read(mlflow_conn_id, _get_connection)
        hook = MLflowClientHook.for_connection(connection).with_limits(OUTSIDE_TASK, reread_login=False)
        others = run_with_timeout(partial(_close, hook, dag_id, run_id, context.get("dag_run")))
        if others and CALLBACKS_CAN_QUERY_TASKS and (ti := context.get("ti")):
            run_with_timeout(partial(_end, hook, _left_open(ti, dag_id, others)))
    except MLflowProviderError as error:
        log.warning("MLflow runs of %s, DAG run %s, may be left RUNNING: %s", dag_id, run_id, error)


def _left_open(ti: Any, dag_id: str, open_runs: list[runs.Run]) -> list[runs.Run]:
    """Return those of a DAG's open runs that have ended in Airflow."""
    run_ids = list({run.tags[runs.RUN_ID] for run in open_runs})
    try:
        states = ti.get_task_states(dag_id=dag_id, run_ids=run_ids)
    except Exception:  # `airflow dags test` has no supervisor that could query Airflow
        log.debug("Could not query Airflow for the tasks of %s.", run_ids, exc_info=True)
        return []
    return [run for run in open_runs if has_ended(run, states.get(run.tags[runs.RUN_ID], {}))]


def has_ended(run: runs.Run, states: Mapping[str, Any]) -> bool:
    """Return whether the task or, for a parent, the DAG run of a run has ended.

    :param states: the states of the tasks of its DAG run.
    """
    task_id, map_index = run.tags.get("airflow.task_id"), run.tags.get("airflow.map_index", "-1")
    # A parent run belongs to all tasks, and Airflow does not report the iterations of a loop separately.
    if task_id and "airflow.loop_index" not in run.tags:
        key = task_id if map_index == "-1" else f"{task_id}_{map_index}"
        states = {key: states[key]} if key in states else {}
    return all(state in ENDED for state in states.values())


def _get_connection(conn_id: str) -> Any:
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        # `airflow dags test` calls the callback outside of a task, where only Airflow's own class finds the
        # connections in its database.
        from airflow.models import Connection

        return Connection.get_connection_from_secrets(conn_id)


def _close(hook: MLflowClientHook, dag_id: str, run_id: str, dag_run: Any) -> list[runs.Run]:
    """End the open runs of a DAG run, and return those of other DAG runs of the same DAG."""
    experiment_ids = runs.all_experiments(hook)
    dag_filter = f"{runs.instance_filter()} AND {runs.tag_filter({runs.DAG_ID: dag_id})}"
    running = runs.search(hook, experiment_ids, f"{dag_filter} AND attributes.status = 'RUNNING'")
    own = [run for run in running if run.tags[runs.RUN_ID] == run_id]
    _end(hook, [run for run in own if parent_run.TAG not in run.tags and not _is_newer(run, dag_run)])

    has_failed = getattr(dag_run, "state", None) == "failed"
    parents: dict[str, list[runs.Run]] = {}
    for parent in parent_run.find(hook, experiment_ids, runs.dag_run_filter(dag_id, run_id)):
        parents.setdefault(parent.experiment_id, []).append(parent)
    for experiment_id, (first, *others) in parents.items():
        for other in others:
            parent_run.unite(hook, first, other.run_id)
        # A parent also stays open when a failed child was never retried. It has finished when the task that
        # failed never got a run.
        status = runs.status(hook, first)
        if others or status == "RUNNING" or (has_failed and status == "FINISHED"):
            otherwise = "FAILED" if has_failed else "FINISHED"
            parent_run.end_if_children_ended(hook, experiment_id, first.run_id, otherwise)
    return [run for run in running if run not in own]


def _end(hook: MLflowClientHook, open_runs: list[runs.Run]) -> None:
    """End runs whose tasks have ended: a parent like its children, any other as KILLED."""
    for run in sorted(open_runs, key=lambda run: parent_run.TAG in run.tags):
        if parent_run.TAG in run.tags:
            parent_run.end_if_children_ended(hook, run.experiment_id, run.run_id)
        elif runs.status(hook, run) == "RUNNING":
            runs.end(hook, run.run_id, "KILLED", REASON)


def _is_newer(run: runs.Run, dag_run: Any) -> bool:
    """Return whether a run began after tasks were cleared, which happens if the callback is late."""
    if dag_run is None:  # Airflow leaves it out if it does not know the last task
        return False
    return int(run.tags.get(runs.CLEAR_NUMBER, 0)) > (dag_run.clear_number or 0)
