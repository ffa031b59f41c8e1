"""Point the ``mlflow`` package at a connection's server for the duration of a block.

The package keeps its state in environment variables, tracking and registry URI, chosen experiment and
workspace, and loggers. All of it belongs to the whole process, so use none of this from several threads at
once.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mlflow_provider.exceptions import MLflowConfigurationError, MLflowUnreachableError
from mlflow_provider.process import mlflow_private
from mlflow_provider.process.environment import environment, set_environment
from mlflow_provider.server import request_auth
from mlflow_provider.server.artifact_store import credentials
from mlflow_provider.server.deadline import run_with_timeout

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlflow_provider.server.connection import MLflowConnection

log = logging.getLogger(__name__)

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # its thread changes the environment while others read it
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # on stderr, which Airflow shows as errors
    "MLFLOW_EXPERIMENT_ID": None,
    "MLFLOW_EXPERIMENT_NAME": None,
}
TRACES_SECONDS = 60.0


@contextmanager
def tracking(connection: MLflowConnection) -> Iterator[MlflowClient]:
    """Point the ``mlflow`` package at a connection's server for the duration of a block.

    Inside it, ``mlflow.start_run``, ``mlflow.log_metric``, ``mlflow.sklearn.log_model`` and the rest
    use that server, with its login, artifact credentials, timeout and retries. At the end, also after an
    error, the environment, the tracking and registry URIs and the chosen experiment are restored.

    :param connection: the server to use.
    :return: a client for that server.
    """
    # skops, with which MLflow stores scikit-learn models, reads every attribute of every loaded module when
    # it is imported. Airflow's deprecated ones would fill the task log with 1,160 lines.
    warnings.filterwarnings("ignore", message=r"The `airflow\.", module=r"skops\.")
    with environment(_SETTINGS):
        import mlflow

        with (
            _server(connection),
            request_auth.use(connection),
            credentials(connection.artifact_store),
            # The experiment that mlflow.set_experiment() has chosen, which wins over the environment.
            mlflow_private.replaced(mlflow_private.ACTIVE_EXPERIMENT, lambda _: None),
            _mlflow_logs_in_task_log(),
            _one_line_about_retries(connection),
            _traces_sent_at_end(),
        ):
            yield mlflow.MlflowClient()


@contextmanager
def _server(connection: MLflowConnection) -> Iterator[None]:
    """Set the URIs and the workspace, and restore all of MLflow's variables at the end.

    What a call has set wins over the environment, and changes it; None unsets it.
    """
    import mlflow

    has_workspaces = hasattr(mlflow, "set_workspace")
    if connection.workspace and not has_workspaces:
        problem, fix = "needs mlflow 3.10 or later where tasks run", "update mlflow, or leave the field empty"
        raise MLflowConfigurationError(connection.conn_id, "Extra, workspace", problem, fix)

    previous = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    variables = _mlflow_variables()
    _set_uris(connection.tracking_uri, connection.registry_uri)
    if has_workspaces:
        mlflow.set_workspace(connection.workspace)
    try:
        yield
    finally:
        if has_workspaces:
            mlflow.set_workspace(None)
        _set_uris(None, None)
        _restore(variables)
        if (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) != previous:  # a call had set them
            _set_uris(*previous)
            _restore(variables)


def _set_uris(tracking_uri: Any, registry_uri: Any) -> None:
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(registry_uri)


def _mlflow_variables() -> dict[str, str | None]:
    return {name: value for name, value in os.environ.items() if name.startswith(("MLFLOW_", "_MLFLOW_"))}


def _restore(variables: Mapping[str, str | None]) -> None:
    set_environment({**dict.fromkeys(_mlflow_variables()), **variables})


@contextmanager
def _mlflow_logs_in_task_log() -> Iterator[None]:
    """Send what MLflow logs and prints to the task's log; Airflow shows all of stderr as errors."""

    def log_text(text: str) -> None:
        if text.strip():  # print() writes the line break by itself
            logger.info(text.strip())

    logger = logging.getLogger("mlflow")
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [], True
    stream = SimpleNamespace(write=log_text, flush=lambda: None)
    try:
        with mlflow_private.replaced(mlflow_private.LOGGING_STREAM, lambda _: stream):
            yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate


@contextmanager
def _one_line_about_retries(connection: MLflowConnection) -> Iterator[None]:
    """Let urllib3 log the first retry of a request to MLflow only, and in our words."""

    def explain(record: logging.LogRecord) -> bool:
        if not (str(record.msg).startswith("Retrying (") and "/mlflow" in str(record.args)):
            return True
        from mlflow_provider.server.session import finding_of

        retries, error, _path = record.args  # type: ignore[misc]
        record.msg = "MLflow does not respond: %s. Retrying %s"
        record.args = (finding_of(error), connection.url)  # type: ignore[arg-type]
        return len(retries.history) == 1  # type: ignore[union-attr]

    logger = logging.getLogger("urllib3.connectionpool")
    logger.addFilter(explain)
    try:
        yield
    finally:
        logger.removeFilter(explain)


@contextmanager
def _traces_sent_at_end() -> Iterator[None]:
    """Send the traces of a block, which MLflow does in the background, before the block leaves its server."""
    import mlflow

    trace_of_earlier_block = mlflow.get_last_active_trace_id()
    try:
        yield
    finally:
        if mlflow.get_last_active_trace_id() != trace_of_earlier_block:
            try:
                run_with_timeout(mlflow.flush_trace_async_logging, TRACES_SECONDS)
            except MLflowUnreachableError as error:
                log.warning("Traces may be missing in MLflow: %s", error)
