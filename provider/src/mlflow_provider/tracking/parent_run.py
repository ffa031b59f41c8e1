"""The parent run that the tasks of a DAG run share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow_provider.exceptions import MLflowAPIError
from mlflow_provider.tracking import runs

if TYPE_CHECKING:
    from mlflow_provider.hooks.client import MLflowClientHook
    from mlflow_provider.tracking.run import Run

# The tag that marks a parent. Of several unconfirmed parents, one will be confirmed.
TAG = "airflow.parent_run"
UNCONFIRMED, CONFIRMED = "unconfirmed", "confirmed"

# How long a task waits for others that are creating a parent run at this moment.
CREATION_SECONDS = 1.0


def get_or_create(
    hook: MLflowClientHook, experiment_id: str, dag_run_tags: Mapping[str, str], *, others_running: bool
) -> str:
    """Return the ID of a DAG run's only parent run, which is RUNNING; create it if it does not exist.

    MLflow accepts any number of runs with the same name and tags, so tasks that start at the same moment
    may each create one. They wait until every task that found none has created its own, then all confirm
    the same one, and each deletes its own if it is another. A task that starts later finds the
    confirmed one.

    :param experiment_id: the experiment. MLflow shows a parent and its children in the same one only.
    :param dag_run_tags: the tags of the DAG run's runs; its ID gives a new run its name.
    :param others_running: whether another task of the DAG run was running when this one started.
    """
    identity = {runs.DAG_RUN: dag_run_tags[runs.DAG_RUN]}

    def search() -> dict[str, Run]:
        parents = runs.search(hook, [experiment_id], f"{runs.tag_filter(identity)} AND tags.`{TAG}` LIKE '%'")
        return {parent.run_id: parent for parent in parents}

    def create(state: str) -> str:
        name = dag_run_tags["airflow.run_id"]
        run, _ = runs.create(hook, experiment_id, name, {**identity, TAG: state}, dag_run_tags)
        return run.run_id

    start = time.monotonic()
    parents = search()
    own = ""
    if not parents and not others_running:
        return create(CONFIRMED)
    if not _confirmed(parents):
        if not parents:
            own = create(UNCONFIRMED)
        # A busy server delays the other tasks as much as this one.
        time.sleep(max(CREATION_SECONDS, 3 * (time.monotonic() - start)))
        parents = search()
    confirmed = _confirmed(parents)
    chosen = min(confirmed or parents)  # the same for all tasks
    if chosen not in confirmed:
        runs.set_tags(hook, chosen, {TAG: CONFIRMED})
    if own not in ("", chosen):
        with suppress(MLflowAPIError):
            runs.delete(hook, own)
    if parents[chosen].status != "RUNNING":
        runs.set_status(hook, chosen, "RUNNING")
    return chosen


def _confirmed(parents: Mapping[str, Run]) -> list[str]:
    return [run_id for run_id, parent in parents.items() if parent.tags.get(TAG) == CONFIRMED]


def end_if_children_ended(
    hook: MLflowClientHook, experiment_id: str, run_id: str, otherwise: str = "FINISHED"
) -> None:
    """End a parent run unless one of its children is running.

    Called after each end of a child, so the last one ends the parent: KILLED if a task's newest run
    was killed, FAILED if one failed. A child that starts later reopens it.

    :param otherwise: the status if all children have finished.
    """
    not_finished = (
        f"tags.`{runs.PARENT_RUN_ID}` = '{run_id}' AND tags.`{runs.SUPERSEDED}` = 'false' "
        "AND attributes.status != 'FINISHED'"
    )
    # In this order: RUNNING, KILLED, FAILED.
    children = runs.search(hook, [experiment_id], not_finished, ["attributes.status DESC"], max_results=1)
    status = children[0].status if children else otherwise
    if status in ("KILLED", "FAILED", "FINISHED"):
        runs.set_status(hook, run_id, status)
