"""The base of all MLflow hooks: the connection, and MLflow's Python API with this connection."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from mlflow_provider.exceptions import MLflowConfigurationError
from mlflow_provider.hooks.wrapping import run_methods_inside
from mlflow_provider.process.environment import set_environment
from mlflow_provider.process.tracking import tracking
from mlflow_provider.server.connection import MLflowConnection

if TYPE_CHECKING:
    from mlflow import MlflowClient


class MLflowBaseHook(BaseHook):
    """Uses the ``mlflow`` package with the server, login and artifact store of a connection.

    .. code-block:: python

        with MLflowBaseHook().tracking():
            mlflow.set_experiment("Housing")
            with mlflow.start_run():
                mlflow.log_metric("rmse", 24_500.0)

    :param mlflow_conn_id: connection of type ``mlflow`` (``http`` also works).

    .. seealso:: https://mlflow.org/docs/latest/api_reference/python_api/
    """

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"

    # unset_env_variables() removes these, even if they were set elsewhere.
    mlflow_env_variables = [
        "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
        "DATABRICKS_HOST",
        "DATABRICKS_TOKEN",
    ]

    def __init__(self, mlflow_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.mlflow_conn_id = mlflow_conn_id
        self._replaced_env_variables: dict[str, str | None] = {}

    @cached_property
    def connection(self) -> MLflowConnection:
        """The connection, read and validated once.

        :raises MLflowConfigurationError: the connection is missing, incomplete or contradictory.
        """
        return MLflowConnection.read(self.mlflow_conn_id, self.get_connection)

    def tracking(self) -> AbstractContextManager[MlflowClient]:
        """Point the ``mlflow`` package at the connection's server for a ``with`` block.

        The process is restored when the block ends, also after an error; see
        :func:`mlflow_provider.process.tracking.tracking`. The block gets an ``mlflow.MlflowClient``.
        """
        return tracking(self.connection)

    @cached_property
    def client(self) -> MlflowClient:
        """An ``mlflow.MlflowClient`` that also works outside of :meth:`tracking`.

        It sets its login in the environment of the process, so use it from one thread at a time.
        """
        block = partial(tracking, self.connection)
        with block() as client:
            return run_methods_inside(block, client)

    def get_conn(self) -> Any:
        """Return :attr:`client`."""
        return self.client

    def _set_env_variables(self, other_env: Mapping[str, str] | None = None) -> None:
        """Set the connection's environment variables permanently, for hooks built on 1.1.0.

        :meth:`tracking` is safer: it sets them for a block.

        :param other_env: additional variables to set.
        :raises MLflowConfigurationError: the artifact store needs a file, which only a block removes.
        """
        store = self.connection.artifact_store
        if store.files:
            problem, fix = "its credentials need a temporary file", "use MLflowBaseHook.tracking()"
            raise MLflowConfigurationError(store.conn_id, "Extra", problem, fix)
        variables = {**self.connection.environment, **store.variables, **(other_env or {})}
        replaced = {name: os.environ.get(name) for name in variables}
        self._replaced_env_variables = {**replaced, **self._replaced_env_variables}
        set_environment(variables)

    def unset_env_variables(self, other_env: Mapping[str, str] | None = None) -> None:
        """Remove MLflow's environment variables, and restore those that this hook replaced.

        :param other_env: additional variables to remove; their values are ignored.
        """
        removed: dict[str, str | None] = dict.fromkeys([*self.mlflow_env_variables, *(other_env or {})])
        set_environment({**removed, **self._replaced_env_variables})
        self._replaced_env_variables = {}
