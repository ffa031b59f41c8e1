"""Which run a try gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mlflow_provider.tracking import runs

Retry = Literal["new", "continue"]
Decision = Literal["new", "same", "continue", "retry"]


def decide(previous: runs.Run | None, tags: Mapping[str, str], retry: Retry) -> Decision:
    """Return what a try does, given the newest run of its task instance.

    - ``new``: create a run. A previous one belongs to a task that was cleared, or to a DAG run that was
      replaced.
    - ``same``: this try already has a run, e.g. because the task was deferred or rescheduled; continue it.
    - ``continue``: a retry, which continues the previous run.
    - ``retry``: a retry; create a run that links to the previous one.

    :param previous: the newest run of the task instance.
    :param tags: the tags of this try.
    :param retry: the task's setting for retries: ``new`` for a new run, ``continue`` for the previous one.
    """
    if previous is None:
        return "new"
    if previous.tags.get(runs.TRY_ID) == tags[runs.TRY_ID]:
        return "same"
    if not _is_retry(previous, tags):
        return "new"
    return "continue" if retry == "continue" else "retry"


def _is_retry(previous: runs.Run, tags: Mapping[str, str]) -> bool:
    """Return whether this try is a retry, and not one of a task that was cleared."""
    # Clearing raises max_tries, unless the task is running: that task is ended, and tried again.
    if previous.tags.get(runs.MAX_TRIES) != tags[runs.MAX_TRIES]:
        return False
    was_cleared = previous.tags.get(runs.CLEAR_NUMBER) != tags[runs.CLEAR_NUMBER]
    if previous.status in ("RUNNING", "KILLED") and was_cleared:
        return False
    # Otherwise the run belongs to an earlier DAG run of the same ID, which was deleted.
    return int(previous.tags.get(runs.TRY_NUMBER, 0)) < int(tags[runs.TRY_NUMBER])
