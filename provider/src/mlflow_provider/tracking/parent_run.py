"""The parent run that the tasks of a DAG run share."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mlflow_provider.exceptions import MLflowAPIError
from mlflow_provider.server.replica import until_visible
from mlflow_provider.tracking import runs

if TYPE_CHECKING:
    from mlflow_provider.hooks.client import MLflowClientHook

log = logging.getLogger(__name__)

TAG = "airflow.parent_run"  # marks a parent

# How long a task waits for others that are creating a parent run at this moment.
CREATION_SECONDS = 1.0
# By their weight for the status of a parent.
STATUSES = ("FINISHED", "FAILED", "KILLED")


def find(hook: MLflowClientHook, experiment_ids: Sequence[str], dag_run_filter: str) -> list[runs.Run]:
    """Return the parent runs of a DAG run, the one to keep first."""
    parents = runs.search(hook, experiment_ids, f"{dag_run_filter} AND tags.`{TAG}` LIKE '%'")
    return sorted(parents, key=_order)


def _order(parent: runs.Run) -> tuple[int, str]:
    return parent.start_time, parent.run_id


def get_or_create(
    hook: MLflowClientHook, experiment_id: str, dag_run_tags: Mapping[str, str], *, others_running: bool
) -> runs.Run:
    """Return a DAG run's only parent run; create it if it does not exist.

    MLflow accepts any number of runs with the same name and tags, so tasks that start at the same moment
    may each create one. Each waits until searches show its own, or an earlier one, and all choose the
    first. Of two tasks, the one whose parent was created later sees both, and unites them. A task that has
    chosen the other parent before finds that out at its end.

    :param experiment_id: the experiment. MLflow shows a parent and its children in the same one only.
    :param dag_run_tags: the tags of the DAG run's runs.
    :param others_running: whether another task of the DAG run was running when this one started.
    """
    identity = {runs.DAG_RUN: dag_run_tags[runs.DAG_RUN]}

    def look() -> list[runs.Run]:
        return find(hook, [experiment_id], runs.tag_filter(identity))

    start = time.monotonic()
    if parents := look():
        for other in parents[1:]:
            unite(hook, parents[0], other.run_id)
        return parents[0]
    name = f"{dag_run_tags[runs.DAG_ID]}, {datetime.now(timezone.utc):%Y-%m-%d %H:%M}"
    own = runs.create(hook, experiment_id, name, {**identity, TAG: "true"}, dag_run_tags)
    if not others_running:
        return own

    def look_for_own() -> list[runs.Run]:
        shown = look()
        return shown if any(_order(parent) <= _order(own) for parent in shown) else []

    # A busy server delays the other tasks as much as this one.
    time.sleep(max(CREATION_SECONDS, 3 * (time.monotonic() - start)))
    first, *others = until_visible(f"parent run {own.run_id}", look_for_own) or [own]
    for other in others if first.run_id == own.run_id else [own]:
        unite(hook, first, other.run_id)
    return first


def unite(hook: MLflowClientHook, first: runs.Run, other: str) -> None:
    """Delete another parent, and move its children to the first.

    A task that ends later finds out by itself that its parent is deleted. All others are moved here: they
    are in the replica as soon as it shows the deletion.
    """

    def search(condition: str) -> list[runs.Run]:
        return runs.search(hook, [first.experiment_id], condition)

    with suppress(MLflowAPIError):  # another task has deleted it
        runs.delete(hook, other)
    until_visible(f"the deletion of parent run {other}", lambda: not search(f"attributes.run_id = '{other}'"))
    for child in search(f"tags.`{runs.PARENT_RUN_ID}` = '{other}'"):
        runs.set_tags(hook, child.run_id, {runs.PARENT_RUN_ID: first.run_id})


def end_with_child(hook: MLflowClientHook, child: runs.Run, status: str) -> None:
    """End the parent of a run that has just ended, unless others of its children are running.

    :param status: of the child.
    """
    experiment_id, parent_run_id = child.experiment_id, child.tags[runs.PARENT_RUN_ID]
    try:
        end_if_children_ended(hook, experiment_id, parent_run_id, status)
    except MLflowAPIError as error:
        parents = find(hook, [experiment_id], runs.tag_filter({runs.DAG_RUN: child.tags[runs.DAG_RUN]}))
        if not parents or parents[0].run_id == parent_run_id:
            log.warning("Parent run %s could not be ended: %s", parent_run_id, error)
            return
        # Another task has united the parents of tasks that started together.
        runs.set_tags(hook, child.run_id, {runs.PARENT_RUN_ID: parents[0].run_id})
        unite(hook, parents[0], parent_run_id)
        end_if_children_ended(hook, experiment_id, parents[0].run_id, status)


def end_if_children_ended(
    hook: MLflowClientHook, experiment_id: str, run_id: str, otherwise: str = "FINISHED"
) -> None:
    """End a parent run unless one of its children is running.

    Called after each end of a child, so the last one ends the parent: KILLED if a task's newest run
    was killed, FAILED if one failed. A child that starts later reopens it.

    :param otherwise: the status if all other children have finished.
    """
    not_finished = (
        f"tags.`{runs.PARENT_RUN_ID}` = '{run_id}' AND tags.`{runs.SUPERSEDED}` = 'false' "
        "AND attributes.status != 'FINISHED'"
    )
    statuses = [otherwise]
    # The first child, in the order RUNNING, KILLED, FAILED. All of them if it has ended since then, which
    # a replica of MLflow's database does not show yet.
    for max_results in (1, runs.MAX_RESULTS):
        children = runs.search(hook, [experiment_id], not_finished, ["attributes.status DESC"], max_results)
        for child in children:
            statuses.append(runs.status(hook, child))
            if statuses[-1] not in STATUSES:
                return
        if not children or children[0].status != "RUNNING":
            break
    runs.set_status(hook, run_id, max(statuses, key=STATUSES.index))
