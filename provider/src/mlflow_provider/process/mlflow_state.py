"""The state that the ``mlflow`` package keeps in a process, set for a block and then as it was before.

That is its environment variables, tracking and registry URI, chosen experiment, active runs and model,
autologging, and where its loggers write.
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

    from mlflow_provider.server.connection import MLflowConnection
    from mlflow_provider.server.login import Login

T = TypeVar("T")

log = logging.getLogger(__name__)

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # its thread changes the environment while others read it
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # on stderr, where Airflow sees errors
}

LOGIN_VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


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
    chosen_elsewhere = dict.fromkeys(("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"))
    with (
        _what_mlflow_sets(),
        environment({**chosen_elsewhere, **_QUIET, **connection.environment}),
        warnings.catch_warnings(),
    ):
        # skops, with which MLflow stores scikit-learn models, looks at every attribute of every loaded
        # module when it is imported. Airflow's deprecated ones would fill the task log: 1,160 lines.
        warnings.filterwarnings("ignore", message=r"The `airflow\.")
        import mlflow

        with (
            _uris_and_experiment(connection.tracking_uri),
            _workspace_of_the_environment(connection),
            _login_of(connection),
            aws_clients_of_the_environment(),
            _logs_at_their_own_level(),
        ):
            yield mlflow.MlflowClient()


@contextmanager
def _what_mlflow_sets() -> Iterator[None]:
    """Take back the variables that a block sets or removes, as ``mlflow.set_experiment`` does."""

    def mlflow_variables() -> dict[str, str | None]:
        return {name: value for name, value in os.environ.items() if name.startswith(("MLFLOW_", "_MLFLOW_"))}

    before = mlflow_variables()
    try:
        yield
    finally:
        set_environment({**dict.fromkeys(mlflow_variables()), **before})


@contextmanager
def _logs_at_their_own_level() -> Iterator[None]:
    """Hand what MLflow logs to the task's log, not to stderr, all of which Airflow takes for errors."""
    from mlflow.utils.logging_utils import MLFLOW_LOGGING_STREAM as PRINTED

    def log_printed(text: str) -> None:
        if text.strip():  # print() writes the line break by itself
            logger.info(text.strip())

    logger = logging.getLogger("mlflow")
    handlers, propagate, write = logger.handlers, logger.propagate, PRINTED.write
    logger.handlers, logger.propagate, PRINTED.write = [], True, log_printed  # type: ignore[method-assign]
    try:
        yield
    finally:
        logger.handlers, logger.propagate, PRINTED.write = handlers, propagate, write  # type: ignore[method-assign]


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


class RequestAuth:
    """The login of the connection that a block points at, as MLflow's ``RequestAuthProvider``.

    Not a subclass of that: it would import ``mlflow``. See the entry point ``mlflow.request_auth_provider``.
    """

    name = "airflow-connection"
    login: Login | None = None  # of the innermost block

    def get_name(self) -> str:
        return self.name

    def get_auth(self) -> Login | None:
        return RequestAuth.login


@contextmanager
def _login_of(connection: MLflowConnection) -> Iterator[None]:
    """Let MLflow take a connection's login from a :class:`Login`, which reads it again when it is refused."""
    from mlflow.environment_variables import MLFLOW_TRACKING_AUTH as AUTH

    from mlflow_provider.server.login import Login

    def renew(renewed: MLflowConnection) -> None:
        # For processes that the block has yet to start.
        set_environment({name: renewed.environment[name] for name in LOGIN_VARIABLES})

    of_the_worker = os.environ.get(AUTH.name)
    is_ours = connection.has_login and not connection.is_databricks and not of_the_worker
    before = RequestAuth.login, AUTH.get
    RequestAuth.login = Login(connection, renew) if is_ours else None
    # Not by the variable itself: MLflow in another Python, which the block starts, would miss this provider.
    AUTH.get = lambda: RequestAuth.name if is_ours else of_the_worker  # type: ignore[method-assign]
    try:
        yield
    finally:
        RequestAuth.login, AUTH.get = before  # type: ignore[method-assign]


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
    """Start a block without active run; afterwards active runs and model, and autologging, are as before."""
    from mlflow.tracking import fluent
    from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

    of_thread = (
        fluent._active_run_stack,
        fluent._last_active_run_id,
        fluent._last_logged_model_id,
        fluent._ACTIVE_MODEL_CONTEXT,
    )
    before = [(variable, variable.get()) for variable in of_thread]
    autologging = copy.deepcopy(AUTOLOGGING_INTEGRATIONS)
    fluent._active_run_stack.set([])
    try:
        # MLFLOW_RUN_ID would turn a run that the block starts into that one.
        with environment({"MLFLOW_RUN_ID": None}):
            yield
    finally:
        for variable, value in before:
            variable.set(value)
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
def active_run(run: Mapping[str, Any] | None) -> Iterator[ActiveRun]:
    """Make a run the active one for a block, and its experiment the one that further runs belong to.

    What the block starts outside of the process, e.g. a training script, finds the run by the variable
    ``MLFLOW_RUN_ID``. The run itself is not ended, but all that the block started inside it and left open.

    :param run: the run as MLflow's API gives it; None for a new one in MLflow's default experiment.
    """
    import mlflow
    from mlflow.tracking import fluent

    active = _activate(run) if run else mlflow.start_run()
    variables = {"MLFLOW_RUN_ID": active.info.run_id, "MLFLOW_EXPERIMENT_ID": active.info.experiment_id}
    fluent._active_experiment_id = active.info.experiment_id  # type: ignore[assignment]
    with environment(variables), _start_run_means(active):
        try:
            yield active
        except BaseException:
            _end_inner_runs(active, "FAILED")
            raise
        _end_inner_runs(active, "FINISHED")


def _activate(run: Mapping[str, Any]) -> ActiveRun:
    """Make a run the active one without asking the server for it."""
    import mlflow
    from mlflow.entities import Run
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
    from mlflow.protos.service_pb2 import Run as RunMessage
    from mlflow.tracking import fluent
    from mlflow.utils.proto_json_utils import parse_dict

    if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        return mlflow.start_run(run["info"]["run_id"])  # which starts their thread, too
    message = RunMessage()
    parse_dict(run, message)
    active = mlflow.ActiveRun(Run.from_proto(message))
    fluent._active_run_stack.get().append(active)
    return active


@contextmanager
def _start_run_means(active: ActiveRun) -> Iterator[None]:
    """Let ``mlflow.start_run()`` mean a run that is active already, and ``mlflow.end_run()`` not end it.

    Training code that was written without Airflow starts a run of its own, which MLflow refuses where one
    is active. Threads and forked processes, which have no active run, log to this one as well.
    """
    import mlflow
    from mlflow.tracking import fluent

    original_start_run, original_end_run = fluent.start_run, fluent.end_run
    run_id, stack, is_in_block = active.info.run_id, fluent._active_run_stack, True

    @functools.wraps(original_start_run)
    def start_run(*args: Any, **kwargs: Any) -> ActiveRun:
        given = inspect.signature(original_start_run).bind(*args, **kwargs).arguments
        current = stack.get()[-1].info.run_id if stack.get() else None
        is_other = given.get("run_id") not in (None, run_id) or given.get("parent_run_id")
        if not is_in_block or is_other or current not in (None, run_id):
            return _without_run_id(original_start_run, **given)
        if given.get("nested"):
            parent = {} if current else {"parent_run_id": run_id}
            return _without_run_id(original_start_run, **given, **parent)
        _describe(run_id, given)
        stack.get().append(mlflow.ActiveRun(active))
        return stack.get()[-1]

    @functools.wraps(original_end_run)
    def end_run(*args: Any, **kwargs: Any) -> None:
        runs = stack.get()
        if is_in_block and runs and runs[-1].info.run_id == run_id:
            fluent._last_active_run_id.set(runs.pop().info.run_id)
        else:
            with environment({"MLFLOW_RUN_ID": os.environ.get("MLFLOW_RUN_ID")}):  # which it removes
                original_end_run(*args, **kwargs)

    mlflow.start_run = fluent.start_run = start_run
    mlflow.end_run = fluent.end_run = end_run
    try:
        yield
    finally:
        is_in_block = False  # for modules that have imported them by name
        mlflow.start_run = fluent.start_run = original_start_run
        mlflow.end_run = fluent.end_run = original_end_run


def _without_run_id(start_run: Callable[..., ActiveRun], **arguments: Any) -> ActiveRun:
    # MLFLOW_RUN_ID, which is for other processes, would turn the new run into that one.
    with environment({"MLFLOW_RUN_ID": None}):
        return start_run(**arguments)


def _describe(run_id: str, given: Mapping[str, Any]) -> None:
    """Give a run the name, the tags and the description that ``mlflow.start_run`` was called with."""
    import mlflow
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE

    named = {MLFLOW_RUN_NAME: given.get("run_name"), MLFLOW_RUN_NOTE: given.get("description")}
    tags = {**(given.get("tags") or {}), **{key: value for key, value in named.items() if value}}
    for key, value in tags.items():
        mlflow.MlflowClient().set_tag(run_id, key, value)


def _end_inner_runs(run: ActiveRun, status: str) -> None:
    import mlflow
    from mlflow.tracking.fluent import run_id_to_system_metrics_monitor

    try:
        while (inner := mlflow.active_run()) and inner is not run:
            mlflow.end_run(status)
        # MLflow does so when Python exits, but Airflow ends the process of a task before that.
        mlflow.flush_async_logging()
        mlflow.flush_artifact_async_logging()
    except mlflow.MlflowException as error:
        log.warning(
            "Runs that were started inside MLflow run %s may be left RUNNING: %s", run.info.run_id, error
        )
    if monitor := run_id_to_system_metrics_monitor.pop(run.info.run_id, None):
        monitor.finish()
