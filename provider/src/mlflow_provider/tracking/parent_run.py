"""The parent run that the tasks of a DAG run share, if they want one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mlflow_provider.exceptions import MLflowAPIError
from mlflow_provider.tracking import runs

if TYPE_CHECKING:
    from mlflow_provider.hooks.client import MLflowClientHook

# The tag that tells a parent from its children. Of several unconfirmed parents, one will be confirmed.
TAG = "airflow.parent_run"
UNCONFIRMED, CONFIRMED = "unconfirmed", "confirmed"

# The tag of a child that another run of the same task instance has replaced, or will replace. Its status is
# no longer the parent's.
SUPERSEDED = "airflow.superseded"

# How long a task waits for others that are creating a parent run at this moment.
CREATION_SECONDS = 1.0


def get_or_create(
    hook: MLflowClientHook, experiment_id: str, dag_run_tags: Mapping[str, str], *, may_compete: bool
) -> str:
    """Return the ID of the one parent run of a DAG run, RUNNING; it is created where it is missing.

    MLflow accepts any number of runs with the same name and tags, so tasks that start at the same moment
    may each create one. They wait until every task that found none has created its own, then all confirm
    the same one, and each deletes its own if it is another. A task that starts later finds the
    confirmed one.

    :param experiment_id: the experiment. MLflow shows a parent and its children in the same one only.
    :param dag_run_tags: the tags of the DAG run's runs; its ID gives a new run its name.
    :param may_compete: whether another task of the DAG run was running when this one started.
    """
    identity = {runs.DAG_RUN: dag_run_tags[runs.DAG_RUN]}
    filter_string = f"{runs.with_tags(identity)} AND tags.`{TAG}` LIKE '%'"

    def search() -> dict[str, dict[str, Any]]:
        found = hook.search_runs([experiment_id], filter_string)
        return {run["info"]["run_id"]: run for run in found}

    def create(state: str) -> str:
        name = dag_run_tags["airflow.run_id"]
        run, _ = runs.create(hook, experiment_id, name, {**identity, TAG: state}, dag_run_tags)
        return run["info"]["run_id"]

    started = time.monotonic()
    found = search()
    own = ""
    if not found and not may_compete:
        return create(CONFIRMED)
    if not _confirmed(found):
        if not found:
            own = create(UNCONFIRMED)
        # A busy server delays the other tasks as much as this one.
        time.sleep(max(CREATION_SECONDS, 3 * (time.monotonic() - started)))
        found = search()
    chosen = min(_confirmed(found) or found)  # the same for all tasks
    if chosen not in _confirmed(found):
        runs.set_tags(hook, chosen, {TAG: CONFIRMED})
    if own not in ("", chosen):
        with suppress(MLflowAPIError):
            runs.delete(hook, own)
    if found[chosen]["info"]["status"] != "RUNNING":
        runs.set_status(hook, chosen, "RUNNING")
    return chosen


def _confirmed(found: Mapping[str, dict[str, Any]]) -> list[str]:
    return [run_id for run_id, run in found.items() if runs.tags_of(run)[TAG] == CONFIRMED]


def end_if_children_ended(
    hook: MLflowClientHook, experiment_id: str, run_id: str, otherwise: str = "FINISHED"
) -> None:
    """End a parent run if none of its children is running.

    Called after each end of a child, so the last one ends the parent: KILLED if a task's newest run
    was killed, FAILED if one failed. A child that starts later reopens it.

    :param otherwise: the status if all have finished.
    """
    not_finished = (
        f"tags.`{runs.PARENT_RUN_ID}` = '{run_id}' AND tags.`{SUPERSEDED}` = 'false' "
        "AND attributes.status != 'FINISHED'"
    )
    # By name: RUNNING before KILLED before FAILED.
    found = hook.search_runs([experiment_id], not_finished, ["attributes.status DESC"], max_results=1)
    status = found[0]["info"]["status"] if found else otherwise
    if status in ("KILLED", "FAILED", "FINISHED"):
        runs.set_status(hook, run_id, status)
