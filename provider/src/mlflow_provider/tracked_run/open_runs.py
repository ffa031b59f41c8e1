"""Ends runs that are still open when nothing of their DAG run can end them any more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.tracked_run import parent_run, runs

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

REASON = "left open when its DAG run ended: its process was killed, or MLflow did not answer"


def close_open_runs(context: Context, mlflow_conn_id: str = MLflowClientHook.default_conn_name) -> None:
    """End the MLflow runs of a DAG run that are still RUNNING; a callback for the end of the DAG run.

    A process that is killed cannot end its run, and a task without retries left has no next try that could.
    DAGs with ``@task.mlflow`` get this callback automatically; where tasks use
    :func:`~mlflow_provider.tracked_run.task_run.task_run`, give the DAG
    ``on_failure_callback=close_open_runs`` and ``on_success_callback=close_open_runs``.

    :param context: the context of the DAG run.
    :param mlflow_conn_id: connection to the server.
    """
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    try:
        hook = MLflowClientHook(mlflow_conn_id=mlflow_conn_id)
        of_dag_run = runs.with_tags(runs.tags_of_dag_run(dag_id, run_id))
        open_runs = runs.search(hook, f"{of_dag_run} AND attributes.status = 'RUNNING'")
        parents = [run["info"] for run in open_runs if parent_run.TAG in runs.tags_of(run)]
        for run in open_runs:
            if run["info"] not in parents:
                runs.kill(hook, run["info"]["run_id"], REASON)
        for parent in parents:
            parent_run.end_if_children_ended(hook, parent["experiment_id"], parent["run_id"])
    except MLflowProviderError as error:
        log.warning("MLflow runs of %s, DAG run %s, may be left RUNNING: %s", dag_id, run_id, error)
