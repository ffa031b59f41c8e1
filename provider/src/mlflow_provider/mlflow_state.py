"""The state that the ``mlflow`` package keeps in a process, set for a block and then as it was before.

That is its environment variables, tracking and registry URI, chosen experiment, active runs and autologging.
All of it belongs to the whole process, so use none of this from several threads at once.

MLflow has setters for most of it, but no way to ask what was set: the state itself is private.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from mlflow_provider.exceptions import MLflowConfigurationError

if TYPE_CHECKING:
    from mlflow import ActiveRun, MlflowClient

    from mlflow_provider.connection import MLflowConnection

T = TypeVar("T")

log = logging.getLogger(__name__)

# Set or removed by mlflow.set_experiment and mlflow.start_run.
_SET_BY_MLFLOW = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables for a block; None removes one.

    Afterwards, also after an error, each of them is as it was before.
    """
    before = {name: os.environ.get(name) for name in variables}
    set_environment(variables)
    try:
        yield
    finally:
        set_environment(before)


def set_environment(variables: Mapping[str, str | None]) -> None:
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

        with (
            _uris_and_experiment(connection.tracking_uri),
            _workspace_of_the_environment(connection),
            aws_clients_of_the_environment(),
        ):
            yield mlflow.MlflowClient()


@contextmanager
def _uris_and_experiment(tracking_uri: str) -> Iterator[None]:
    # What was set by a call is private, and wins over the environment.
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


@contextmanager
def _workspace_of_the_environment(connection: MLflowConnection) -> Iterator[None]:
    # What mlflow.set_workspace chose wins over the environment.
    try:
        from mlflow.utils.workspace_context import _WORKSPACE
    except ImportError:
        if connection.workspace:
            problem = "needs mlflow 3.10 or later where tasks run; update that, or enter nothing."
            raise MLflowConfigurationError(connection.conn_id, "Extra, workspace", problem) from None
        yield
        return
    chosen = _WORKSPACE.get()
    _WORKSPACE.set(None)
    try:
        yield
    finally:
        _WORKSPACE.set(chosen)


@contextmanager
def aws_clients_of_the_environment() -> Iterator[None]:
    """Let AWS's clients take the keys that the environment has in a block, and after it those of before.

    MLflow keeps S3 clients by endpoint, whatever the keys; boto3 keeps the first keys it found.
    """
    session = getattr(sys.modules.get("boto3"), "DEFAULT_SESSION", None)
    _renew_aws_clients(None)
    try:
        yield
    finally:
        _renew_aws_clients(session)


def _renew_aws_clients(session: Any) -> None:
    if s3 := sys.modules.get("mlflow.store.artifact.s3_artifact_repo"):
        s3._cached_get_s3_client.cache_clear()
    if boto3 := sys.modules.get("boto3"):
        boto3.DEFAULT_SESSION = session  # type: ignore[attr-defined]


def connected_client(connection: MLflowConnection) -> MlflowClient:
    """Return an ``mlflow.MlflowClient`` each of whose methods runs inside :func:`tracking`.

    MLflow's own client reads its login from the environment at every request, so outside of
    such a block it would be without one.
    """
    block = functools.partial(tracking, connection)
    with block() as client:
        return run_methods_inside(block, client)


def run_methods_inside(block: Callable[[], AbstractContextManager[Any]], client: T) -> T:
    """Make each public method of a client run inside a block, and return the client.

    :param block: returns the block, once for each call.
    """
    for name, _ in inspect.getmembers(type(client), inspect.isroutine):
        if not name.startswith("_"):
            setattr(client, name, _inside(block, getattr(client, name)))
    return client


def copy_with_functions_inside(
    block: Callable[[], AbstractContextManager[Any]], module: ModuleType
) -> ModuleType:
    """Return a copy of a module, of which each public function runs inside a block.

    :param block: returns the block, once for each call.
    """
    module_copy = ModuleType(module.__name__, module.__doc__)
    for name, value in vars(module).items():
        is_public_function = inspect.isroutine(value) and not name.startswith("_")
        setattr(module_copy, name, _inside(block, value) if is_public_function else value)
    return module_copy


def _inside(
    block: Callable[[], AbstractContextManager[Any]], function: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    return call


@contextmanager
def without_active_run() -> Iterator[None]:
    """Start a block without active run, and afterwards put active runs and autologging back as they were."""
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
def active_run(run_id: str, experiment_id: str) -> Iterator[ActiveRun]:
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
        _end_inner_runs(run, "FAILED")
        raise
    _end_inner_runs(run, "FINISHED")


def _end_inner_runs(run: ActiveRun, status: str) -> None:
    import mlflow
    from mlflow.tracking.fluent import run_id_to_system_metrics_monitor

    try:
        while (inner := mlflow.active_run()) and inner is not run:
            mlflow.end_run(status)
        # MLflow does so when Python exits, but Airflow ends the process of a task before that.
        mlflow.flush_async_logging()
        if inner:  # without an active run, this would start one
            mlflow.flush_artifact_async_logging()
    except mlflow.MlflowException as error:
        log.warning(
            "Runs that were started inside MLflow run %s may be left RUNNING: %s", run.info.run_id, error
        )
    if monitor := run_id_to_system_metrics_monitor.pop(run.info.run_id, None):
        monitor.finish()
