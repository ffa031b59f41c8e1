"""The parent run that the tasks of a DAG run share, if they want one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow_provider.exceptions import MLflowAPIError
from mlflow_provider.tracked_run import runs

if TYPE_CHECKING:
    from mlflow_provider.hooks.client import MLflowClientHook

# The tag that tells a parent from its children. Of several unconfirmed parents, one will be confirmed.
TAG = "airflow.parent_run"
UNCONFIRMED, CONFIRMED = "unconfirmed", "confirmed"

# How long a task waits for others that are creating a parent run at this moment.
CREATION_SECONDS = 1.0
MAX_CHILDREN = 100_000


def get_or_create(hook: MLflowClientHook, experiment_id: str, dag_id: str, run_id: str) -> str:
    """Return the ID of the one parent run of a DAG run; it is created where it is missing.

    MLflow accepts any number of runs with the same name and tags, so tasks that start at the same moment
    may each create one. They wait until every task that found none has created its own, then all confirm
    the same one and delete the others. A task that starts later finds the confirmed one.

    :param experiment_id: the experiment. MLflow shows a parent and its children in the same one only.
    :param dag_id: ID of the DAG.
    :param run_id: ID of the DAG run, which gives a new run its name.
    """
    identity = runs.tags_of_dag_run(dag_id, run_id)
    filter_string = f"{runs.with_tags(identity)} AND tags.`{TAG}` LIKE '%'"

    def search() -> dict[str, str]:
        found = hook.search_runs([experiment_id], filter_string)
        return {run["info"]["run_id"]: runs.tags_of(run)[TAG] for run in found}

    started = time.monotonic()
    found = search()
    if CONFIRMED in found.values():
        return _choose(found)
    if not found:
        runs.create(hook, experiment_id, run_id, {**identity, TAG: UNCONFIRMED})
    # A busy server delays the other tasks as much as this one.
    time.sleep(max(CREATION_SECONDS, 3 * (time.monotonic() - started)))
    found = search()
    chosen = _choose(found)
    runs.set_tags(hook, chosen, {TAG: CONFIRMED})
    for other in found.keys() - {chosen}:
        with suppress(MLflowAPIError):  # another task has deleted it
            runs.delete(hook, other)
    return chosen


def _choose(found: Mapping[str, str]) -> str:
    """Return the same run to all tasks: the first confirmed one by ID, or the first one if none is."""
    confirmed = [run_id for run_id, state in found.items() if state == CONFIRMED]
    return min(confirmed or found)


def end_if_children_ended(hook: MLflowClientHook, experiment_id: str, run_id: str) -> None:
    """End a parent run if none of its children is running.

    Called after each end of a child, so the last one ends the parent: FAILED if a task's newest run
    failed, KILLED if one was killed, FINISHED otherwise. A child that starts later reopens it.
    """
    children = f"tags.`{runs.PARENT_RUN_ID}` = '{run_id}'"
    if hook.search_runs([experiment_id], f"{children} AND attributes.status = 'RUNNING'", max_results=1):
        return
    oldest_first = ["attributes.start_time ASC"]
    newest: dict[tuple[str | None, str | None], str] = {}
    for child in hook.search_runs([experiment_id], children, oldest_first, MAX_CHILDREN):
        tags = runs.tags_of(child)
        newest[tags.get("airflow.task_id"), tags.get("airflow.map_index")] = child["info"]["status"]
    worst = next((status for status in ("FAILED", "KILLED") if status in newest.values()), "FINISHED")
    runs.set_status(hook, run_id, worst)
