"""The parent run that the tasks of a DAG run share, if they want one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow_provider import runs
from mlflow_provider.exceptions import MLflowAPIError

if TYPE_CHECKING:
    from mlflow_provider.hooks.client import MLflowClientHook

# The tag that tells a parent from its children, and its values.
TAG = "airflow.parent_run"
CANDIDATE, ELECTED = "candidate", "elected"

SETTLING_SECONDS = 1.0
MAX_CHILDREN = 100_000


def elect(hook: MLflowClientHook, experiment_id: str, dag_id: str, run_id: str) -> str:
    """Return the ID of the run that all tasks of a DAG run agree on; it is created where it is missing.

    MLflow gives any number of runs the same name and tags, so tasks that start at the same moment may each
    create a candidate. They wait until whoever saw none of them has created his as well; then all choose
    the same one, and the others are deleted. Whoever comes later finds the elected one.

    :param experiment_id: the experiment. MLflow shows a parent and its children in the same one only.
    :param dag_id: ID of the DAG.
    :param run_id: ID of the DAG run, which gives a new run its name.
    """
    identity = runs.tags_of_dag_run(dag_id, run_id)
    criteria = f"{runs.having(identity)} AND tags.`{TAG}` LIKE '%'"

    def search() -> dict[str, str]:
        found = hook.search_runs([experiment_id], criteria)
        return {run["info"]["run_id"]: runs.tags_of(run)[TAG] for run in found}

    started = time.monotonic()
    found = search()
    if ELECTED in found.values():
        return _choose(found)
    if not found:
        runs.create(hook, experiment_id, run_id, {**identity, TAG: CANDIDATE})
    # A busy server keeps everybody waiting alike.
    time.sleep(max(SETTLING_SECONDS, 3 * (time.monotonic() - started)))
    found = search()
    elected = _choose(found)
    runs.set_tags(hook, elected, {TAG: ELECTED})
    for run_id in found.keys() - {elected}:
        with suppress(MLflowAPIError):  # somebody else has deleted it
            hook.call("POST", "runs/delete", {"run_id": run_id})
    return elected


def _choose(found: Mapping[str, str]) -> str:
    return min((state != ELECTED, run_id) for run_id, state in found.items())[1]


def settle(hook: MLflowClientHook, experiment_id: str, run_id: str) -> None:
    """End a parent if none of its children runs any more.

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
    runs.update(hook, run_id, worst)
