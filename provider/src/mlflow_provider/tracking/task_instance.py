"""A try of a task instance as tags, names and links of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_provider.tracking import runs

if TYPE_CHECKING:
    from airflow.sdk import Context


def tags(context: Context) -> dict[str, str]:
    """Return the tags that lead from a run to the try of a task, and its DAG run, in Airflow."""
    ti: Any = context["ti"]
    dag_run: Any = context["dag_run"]
    result = {
        **runs.dag_run_tags(ti.dag_id, ti.run_id),
        "airflow.task_id": ti.task_id,
        "airflow.map_index": str(ti.map_index),
        runs.TRY_ID: str(ti.id),
        runs.TRY_NUMBER: str(ti.try_number),
        runs.MAX_TRIES: str(ti.max_tries),
        runs.CLEAR_NUMBER: str(dag_run.clear_number or 0),
        "airflow.url": ti.log_url,
    }
    if dag_run.logical_date:  # a manual DAG run has none
        result["airflow.logical_date"] = dag_run.logical_date.isoformat()
    loop_index = _loop_index(context)
    if loop_index is not None:
        result["airflow.loop_index"] = str(loop_index)
    return result


def identity(context: Context) -> dict[str, str]:
    """Return the tag that all runs of a task instance have, and no other run."""
    ti: Any = context["ti"]
    loop_index = _loop_index(context)
    iteration = () if loop_index is None else (loop_index,)
    dag_run = runs.dag_run_tags(ti.dag_id, ti.run_id)[runs.DAG_RUN]
    return {runs.TASK_INSTANCE: f"{dag_run}/{runs.key(ti.task_id, ti.map_index, *iteration)}"}


def description(context: Context) -> dict[str, str]:
    """Return the tags that MLflow's pages show; its client would describe Airflow's own process."""
    ti: Any = context["ti"]
    return {
        "mlflow.user": context["task"].owner,
        "mlflow.source.type": "JOB",
        "mlflow.source.name": f"{ti.dag_id}.{ti.task_id}",
        runs.DESCRIPTION: f"[Task instance in Airflow]({ti.log_url})",
    }


def run_name(context: Context) -> str:
    """Return the task ID, with the map index and the iteration if there are any."""
    ti: Any = context["ti"]
    loop_index = _loop_index(context)
    mapped = "" if ti.map_index == -1 else f"[{ti.map_index}]"
    return ti.task_id + mapped + ("" if loop_index is None else f"#{loop_index}")


def _loop_index(context: Context) -> int | None:
    loop: Any = context.get("loop")  # Airflow 3.4: an iteration of a task loop
    return loop.index if loop else None
