"""The run of a task, as all processes of the task know it: from the environment, never from Airflow."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow_provider.server import local_tracking

PARENT_RUN_ID = "mlflow.parentRunId"
VARIABLE = "AIRFLOW_MLFLOW_RUN"
RUN_ID = "MLFLOW_RUN_ID"  # MLflow's own variable: the first start_run() of a program continues this run


@dataclass(frozen=True)
class SharedRun:
    """The MLflow run of a task.

    :param run_id: its ID.
    :param tags: tags of the further runs that the task starts.
    :param process: ID of the task's own process.
    :param token: path of a file. The process that deletes it may use the run; all other runs are children.
    """

    run_id: str
    tags: Mapping[str, str]
    process: int
    token: str

    @classmethod
    def from_environment(cls) -> SharedRun | None:
        """Return the run of the task that this process belongs to; None without a task."""
        try:
            return cls(**json.loads(os.environ[VARIABLE]))
        except (KeyError, TypeError, ValueError):  # also written by another version of this package
            return None

    @property
    def variables(self) -> dict[str, str]:
        """The environment from which other processes know the run."""
        return {VARIABLE: json.dumps(asdict(self)), RUN_ID: self.run_id}

    @property
    def is_this_process(self) -> bool:
        """Whether this is the task's own process, not a forked one or a program."""
        return os.getpid() == self.process

    def take(self) -> bool:
        """Return whether the caller may use the run, which is true once."""
        token = Path(self.token)
        try:
            token.unlink()
        except FileNotFoundError:
            return not token.parent.exists()  # on another machine, e.g. in a container
        return True


@contextmanager
def share(run_id: str, tags: Mapping[str, str]) -> Iterator[SharedRun]:
    """Share a run with the processes that a block starts by :attr:`SharedRun.variables`."""
    folder = Path(tempfile.mkdtemp(prefix="mlflow-run-"))
    shared = SharedRun(run_id, dict(tags), os.getpid(), str(folder / "token"))
    Path(shared.token).touch()
    try:
        yield shared
    finally:
        if shared.is_this_process:  # a forked process also leaves the block
            shutil.rmtree(folder, ignore_errors=True)


class AirflowRunContext:
    """Tags every run that the ``mlflow`` package starts in a task, so that it leads back to Airflow.

    MLflow's ``RunContextProvider``, but not a subclass, which would import ``mlflow``.

    .. seealso:: https://mlflow.org/docs/latest/ml/plugins/
    """

    def __init__(self) -> None:
        """Let a program continue the task's run only if no other process uses it, and it is no pool's worker.

        MLflow calls this when it is imported. ``mlflow.start_run()`` continues the run of MLFLOW_RUN_ID.
        """
        shared = SharedRun.from_environment()
        if shared and os.environ.get(RUN_ID) == shared.run_id:
            is_worker = multiprocessing.current_process().name != "MainProcess"
            if is_worker or not shared.take():
                del os.environ[RUN_ID]

    def in_context(self) -> bool:
        """Return whether this process runs a task of Airflow, or was started by one."""
        return local_tracking.is_in_task() or VARIABLE in os.environ

    def tags(self) -> dict[str, str]:
        """Return the tags of the task and its DAG run; warn if the run is not logged to a server.

        :raises LocalTrackingURIError: it is not, and Airflow's setting demands a failure.
        """
        local_tracking.warn()
        if shared := SharedRun.from_environment():
            return {**shared.tags, PARENT_RUN_ID: shared.run_id}
        return _tags_of_task() if "airflow.sdk" in sys.modules else {}  # not in a program


def _tags_of_task() -> dict[str, Any]:
    from airflow.sdk import get_current_context

    from mlflow_provider.tracking import task_instance

    try:
        context = get_current_context()
    except RuntimeError:
        return {}
    return {**task_instance.description(context), **task_instance.tags(context)}
