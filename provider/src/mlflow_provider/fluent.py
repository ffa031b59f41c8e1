"""The state that MLflow's fluent API keeps in the process: active runs, chosen experiment, autologging."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_provider.mlflow_state import environment

if TYPE_CHECKING:
    from mlflow import ActiveRun

log = logging.getLogger(__name__)


@contextmanager
def set_aside() -> Iterator[None]:
    """Start a block without active run, and afterwards put active runs and autologging back as they were."""
    # MLflow has setters for these, but no way to ask what was set: the state itself is private.
    from mlflow.tracking.fluent import _active_run_stack
    from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

    runs, autologging = _active_run_stack.get(), copy.deepcopy(AUTOLOGGING_INTEGRATIONS)
    _active_run_stack.set([])
    try:
        # MLFLOW_RUN_ID would turn a run that the block starts into that one.
        with environment({"MLFLOW_RUN_ID": None}):
            yield
    finally:
        _active_run_stack.set(runs)
        AUTOLOGGING_INTEGRATIONS.clear()
        AUTOLOGGING_INTEGRATIONS.update(autologging)


@contextmanager
def autologging(options: bool | Mapping[str, Any]) -> Iterator[None]:
    """Switch ``mlflow.autolog`` on for a block.

    :param options: its arguments, e.g. ``{"log_models": False}``; True for the defaults, False to leave it.
    """
    if options is False:
        yield
        return
    import mlflow

    mlflow.autolog(**({} if options is True else options))
    try:
        yield
    finally:
        mlflow.autolog(disable=True)  # also for what is imported later


@contextmanager
def active(run_id: str, experiment_id: str) -> Iterator[ActiveRun]:
    """Make a run the active one for a block, and its experiment the one that further runs belong to.

    The run itself is not ended, but all that the block started inside it and left open.

    :param run_id: the run; if empty, a new one.
    :param experiment_id: its experiment; if empty, MLflow's default one.
    """
    import mlflow

    if experiment_id:
        mlflow.set_experiment(experiment_id=experiment_id)
    run = mlflow.start_run(run_id=run_id or None)
    try:
        yield run
    except BaseException:
        _leave(run, "FAILED")
        raise
    _leave(run, "FINISHED")


def _leave(run: ActiveRun, status: str) -> None:
    import mlflow
    from mlflow.tracking.fluent import run_id_to_system_metrics_monitor

    try:
        while (inner := mlflow.active_run()) and inner is not run:
            mlflow.end_run(status)
        # MLflow does so when Python ends, which a task of Airflow does not live to see.
        mlflow.flush_async_logging()
        if inner:  # without an active run, this would start one
            mlflow.flush_artifact_async_logging()
    except mlflow.MlflowException as error:
        log.warning("What MLflow run %s left open may stay RUNNING: %s", run.info.run_id, error)
    if monitor := run_id_to_system_metrics_monitor.pop(run.info.run_id, None):
        monitor.finish()
