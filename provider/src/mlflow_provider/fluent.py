"""The state that MLflow's fluent API keeps in the process: active runs, chosen experiment, autologging."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.tracking import environment

if TYPE_CHECKING:
    from mlflow import ActiveRun


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
def autologging(options: Mapping[str, Any]) -> Iterator[None]:
    """Switch ``mlflow.autolog`` on for a block.

    :param options: its arguments, e.g. ``{"log_models": False}``.
    """
    import mlflow

    mlflow.autolog(**options)
    try:
        yield
    finally:
        mlflow.autolog(disable=True)  # also for what is imported later


def activate(run_id: str | None = None, experiment_id: str | None = None) -> ActiveRun:
    """Make a run the active one, RUNNING, and its experiment the one that further runs belong to.

    :param run_id: the run; a new one by default.
    """
    import mlflow

    if experiment_id:
        mlflow.set_experiment(experiment_id=experiment_id)
    return mlflow.start_run(run_id=run_id)


def end(run_id: str, status: str) -> None:
    """End an active run, and before it those that were started inside it and left open.

    :param status: ``FINISHED``, ``FAILED`` or ``KILLED``.
    :raises MLflowProviderError: MLflow does not take it.
    """
    import mlflow

    try:
        while run := mlflow.active_run():
            mlflow.end_run(status)
            if run.info.run_id == run_id:
                return
        mlflow.MlflowClient().set_terminated(run_id, status)  # the block has ended its run itself
    except mlflow.MlflowException as error:
        raise MLflowProviderError(f"Ending MLflow run {run_id} as {status}: {error}") from error
