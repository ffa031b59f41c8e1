"""Puts a connection in place for MLflow's Python API, and puts the process back as it was."""

from __future__ import annotations

import functools
import inspect
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlflow_provider.connection import MLflowConnection

T = TypeVar("T")

# Set or removed by mlflow.set_experiment and mlflow.start_run.
_SET_BY_MLFLOW = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables for a block; None removes one.

    Afterwards, also after an error, each of them is as it was before. The environment belongs to
    the whole process, so do not use this from several threads at once.
    """
    before = {name: os.environ.get(name) for name in variables}
    apply(variables)
    try:
        yield
    finally:
        apply(before)


def apply(variables: Mapping[str, str | None]) -> None:
    """Set environment variables; None removes one."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def tracking(connection: MLflowConnection) -> Iterator[MlflowClient]:
    """Point the ``mlflow`` package at a connection's server for a block.

    Inside it, ``mlflow.start_run``, ``mlflow.log_metric``, ``mlflow.sklearn.log_model`` and the rest
    reach that server, with its login, artifact credentials, timeout and retries. Afterwards, also
    after an error, the environment, the tracking and registry URIs and the chosen experiment are as
    before.

    :param connection: the server to use.
    :return: a client for that server.
    """
    restored = dict.fromkeys(_SET_BY_MLFLOW) | {n: os.environ[n] for n in _SET_BY_MLFLOW if n in os.environ}
    with environment({**restored, **connection.environment}), warnings.catch_warnings():
        # skops, with which MLflow stores scikit-learn models, looks at every attribute of every loaded
        # module when it is imported. Airflow's deprecated ones would fill the task log: 1,160 lines.
        warnings.filterwarnings("ignore", message=r"The `airflow\.")
        import mlflow

        with _mlflow_state(connection.tracking_uri):
            yield mlflow.MlflowClient()


@contextmanager
def _mlflow_state(tracking_uri: str) -> Iterator[None]:
    # MLflow offers set_tracking_uri and its like, but no way to ask whether they were called before:
    # what they set is private, and wins over the environment.
    from mlflow.tracking import fluent
    from mlflow.tracking._model_registry import utils as registry
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    registry_uri, experiment_id = registry._registry_uri, fluent._active_experiment_id
    registry._registry_uri = fluent._active_experiment_id = None
    try:
        with _use_tracking_uri(tracking_uri):
            yield
    finally:
        registry._registry_uri, fluent._active_experiment_id = registry_uri, experiment_id


def connected_client(connection: MLflowConnection) -> MlflowClient:
    """Return an ``mlflow.MlflowClient`` each of whose calls runs inside :func:`tracking`.

    MLflow's own client reads its login from the environment at every request, so outside of
    such a block it would be without one.
    """
    from mlflow import MlflowClient

    with tracking(connection):
        return connected(MlflowClient(), functools.partial(tracking, connection))


def connected(target: T, block: Callable[[], AbstractContextManager[Any]]) -> T:
    """Return a stand-in for a module or an object each of whose functions runs inside a block.

    :param target: what the stand-in stands for; its other attributes are its own.
    :param block: returns the block, once for each call.
    """

    class Connected:
        def __getattr__(self, name: str) -> Any:
            attribute = getattr(target, name)
            if name.startswith("_") or not inspect.isroutine(attribute):
                return attribute

            @functools.wraps(attribute)
            def call(*args: Any, **kwargs: Any) -> Any:
                with block():
                    return attribute(*args, **kwargs)

            return call

        __class__ = property(lambda _: type(target))  # as isinstance sees it

    return cast("T", Connected())
