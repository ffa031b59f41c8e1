"""Make a run the active run of the ``mlflow`` package for the duration of a block."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_provider.process import mlflow_private
from mlflow_provider.process.environment import environment

if TYPE_CHECKING:
    from mlflow import ActiveRun

    from mlflow_provider.tracking.run import Run

log = logging.getLogger(__name__)


@contextmanager
def no_active_run() -> Iterator[None]:
    """Run a block without an active run; afterwards the previous runs are active again, but no model."""
    import mlflow

    previous = None
    with mlflow_private.optional(mlflow_private.ACTIVE_RUNS):
        previous = mlflow_private.ACTIVE_RUNS.get().get()
        mlflow_private.ACTIVE_RUNS.get().set([])
    try:
        # MLFLOW_RUN_ID would turn a run that the block starts into that one.
        with environment({"MLFLOW_RUN_ID": None}):
            yield
    finally:
        if previous is not None:
            with mlflow_private.optional(mlflow_private.ACTIVE_RUNS):
                mlflow_private.ACTIVE_RUNS.get().set(previous)
        if mlflow.get_active_model_id():
            mlflow.clear_active_model()


@contextmanager
def autologging(options: bool | Mapping[str, Any]) -> Iterator[None]:
    """Enable ``mlflow.autolog`` for the duration of a block; afterwards, what the block enabled is disabled.

    :param options: its arguments, e.g. ``{"log_models": False}``; True for the defaults, False for none.
    """
    import mlflow

    previous = None
    with mlflow_private.optional(mlflow_private.AUTOLOGGING):
        previous = copy.deepcopy(mlflow_private.AUTOLOGGING.get())
    if options is not False:
        mlflow.autolog(**({} if options is True else options))
    try:
        yield
    finally:
        if options is not False:
            mlflow.autolog(disable=True)  # also for what is imported later
        if previous is not None:
            with mlflow_private.optional(mlflow_private.AUTOLOGGING):
                integrations = mlflow_private.AUTOLOGGING.get()
                integrations.clear()
                integrations.update(previous)


@contextmanager
def active_run(run: Run | None) -> Iterator[ActiveRun]:
    """Make a run the active run for the duration of a block, and its experiment the default for further runs.

    Programs that the block starts, e.g. a training script, find the run by the variable ``MLFLOW_RUN_ID``.
    At its end the block ends the runs that it started and left open, but not the run itself.

    :param run: the run; None for a new one in MLflow's default experiment.
    """
    import mlflow
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

    # MLflow's own start_run() also starts the thread that logs system metrics; its end_run() stops that.
    is_started_by_mlflow = run is None or MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get()
    active = None if run is None or is_started_by_mlflow else _activate(_as_active_run(run))
    if active is None:
        is_started_by_mlflow = True
        active = mlflow.start_run(run_id=run.run_id if run else None, nested=True)
    with mlflow_private.optional(mlflow_private.ACTIVE_EXPERIMENT):
        mlflow_private.ACTIVE_EXPERIMENT.set(active.info.experiment_id)
    end_run = mlflow.end_run
    variables = {"MLFLOW_RUN_ID": active.info.run_id, "MLFLOW_EXPERIMENT_ID": active.info.experiment_id}
    status = "FAILED"
    try:
        with environment(variables), _start_run_returns(active):
            try:
                yield active
                status = "FINISHED"
            finally:
                _end_inner_runs(active, status)
    finally:
        if is_started_by_mlflow and mlflow.active_run():
            end_run(status)


def _as_active_run(run: Run) -> ActiveRun:
    import mlflow
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities import RunData, RunInfo, RunTag

    info = RunInfo(
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        user_id=run.tags.get("mlflow.user", ""),
        status=run.status,
        start_time=run.start_time,
        end_time=run.end_time,
        lifecycle_stage="active",
        artifact_uri=run.artifact_uri,
        run_name=run.name,
    )
    data = RunData(tags=[RunTag(key, value) for key, value in run.tags.items()])
    return mlflow.ActiveRun(MlflowRun(info, data))


def _activate(run: ActiveRun) -> ActiveRun | None:
    """Make a run the active run of this thread without a request; return None if this MLflow cannot."""
    with mlflow_private.optional(mlflow_private.ACTIVE_RUNS):
        mlflow_private.ACTIVE_RUNS.get().get().append(run)
        return run
    return None


def _deactivate() -> bool:
    """Make this thread's active run inactive without a request; return False if this MLflow cannot."""
    with mlflow_private.optional(mlflow_private.ACTIVE_RUNS):
        mlflow_private.ACTIVE_RUNS.get().get().pop()
        return True
    return False


@contextmanager
def _start_run_returns(active: ActiveRun) -> Iterator[None]:
    """Let ``mlflow.start_run()`` return the active run, and ``mlflow.end_run()`` keep it open.

    Training code written without Airflow starts its own run, which MLflow rejects if another run is active.
    Threads and forked processes, which have no active run, also log to this one.
    """
    import mlflow

    original_start_run, original_end_run = mlflow.start_run, mlflow.end_run
    signature = inspect.signature(original_start_run)
    run_id, is_in_block = active.info.run_id, True

    def current_run_id() -> str | None:
        current = mlflow.active_run()
        return current.info.run_id if current else None

    @functools.wraps(original_start_run)
    def start_run(*args: Any, **kwargs: Any) -> ActiveRun:
        arguments = signature.bind(*args, **kwargs).arguments
        is_other_run = arguments.get("run_id") not in (None, run_id) or arguments.get("parent_run_id")
        current = current_run_id()
        if is_in_block and not is_other_run and current in (None, run_id):
            if not arguments.get("nested"):
                _describe(run_id, arguments)
                return _activate(mlflow.ActiveRun(active)) or mlflow.ActiveRun(active)
            if current is None:
                arguments["parent_run_id"] = run_id
        # MLFLOW_RUN_ID, which is for other processes, would turn the new run into that one.
        with environment({"MLFLOW_RUN_ID": None}):
            return original_start_run(**arguments)

    @functools.wraps(original_end_run)
    def end_run(*args: Any, **kwargs: Any) -> None:
        if is_in_block and current_run_id() == run_id and _deactivate():
            return
        with environment({"MLFLOW_RUN_ID": os.environ.get("MLFLOW_RUN_ID")}):  # which end_run removes
            original_end_run(*args, **kwargs)

    try:
        with _replaced(start_run), _replaced(end_run):
            yield
    finally:
        is_in_block = False  # for modules that have imported the functions by name


@contextmanager
def _replaced(function: Any) -> Iterator[None]:
    """Replace the function of this name in ``mlflow`` for the duration of a block.

    It is also replaced in the module that defines it, where MLflow itself calls it: ``log_metric`` starts a
    run, and ``with mlflow.start_run():`` ends one.
    """
    import mlflow

    name = function.__name__
    original = getattr(mlflow, name)
    modules = [mlflow, sys.modules.get(original.__module__, mlflow)]
    for module in modules:
        setattr(module, name, function)
    try:
        yield
    finally:
        for module in modules:
            setattr(module, name, original)


def _describe(run_id: str, arguments: Mapping[str, Any]) -> None:
    """Give a run the name, the tags and the description that ``mlflow.start_run`` was called with.

    .. seealso:: https://mlflow.org/docs/latest/ml/tracking/tracking-api/#system-tags
    """
    import mlflow

    system_tags = {
        "mlflow.runName": arguments.get("run_name"),
        "mlflow.note.content": arguments.get("description"),
    }
    tags = {
        **(arguments.get("tags") or {}),
        **{key: value for key, value in system_tags.items() if value},
    }
    for key, value in tags.items():
        mlflow.MlflowClient().set_tag(run_id, key, value)


def _end_inner_runs(run: ActiveRun, status: str) -> None:
    import mlflow

    try:
        while (inner := mlflow.active_run()) and inner is not run:
            mlflow.end_run(status)
        # MLflow flushes when Python exits, but Airflow ends the process of a task before that.
        mlflow.flush_async_logging()
        mlflow.flush_artifact_async_logging()
    except mlflow.MlflowException as error:
        log.warning(
            "Runs that were started inside MLflow run %s may be left RUNNING: %s", run.info.run_id, error
        )
