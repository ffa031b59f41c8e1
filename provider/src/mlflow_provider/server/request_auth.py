"""The login of a connection as MLflow's ``RequestAuthProvider``; see the entry point of that name.

Imported by MLflow in every process that it finds the entry point in, so this module imports little.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlflow_provider.server.connection import MLflowConnection
    from mlflow_provider.server.login import Login

# MLflow's variable for the name of the provider to use.
VARIABLE = "MLFLOW_TRACKING_AUTH"
LOGIN_VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


class RequestAuth:
    """The login of the connection that :func:`mlflow_provider.process.tracking.tracking` uses.

    Not a subclass of ``RequestAuthProvider``, which would import ``mlflow``. In a process that the task
    starts there is no login here, and MLflow takes it from the environment.
    """

    name = "airflow-connection"
    login: Login | None = None  # of the innermost block

    def get_name(self) -> str:
        return self.name

    def get_auth(self) -> Login | None:
        return RequestAuth.login


@contextmanager
def login_of(connection: MLflowConnection) -> Iterator[None]:
    """Let MLflow take the login from a :class:`Login`, which reads the connection again if it is rejected.

    A login method that the worker's environment names has priority.
    """
    from mlflow_provider.process.environment import environment, set_environment
    from mlflow_provider.server.login import Login

    def set_login_variables(renewed: MLflowConnection) -> None:
        # For processes that the block has yet to start.
        set_environment({name: renewed.environment[name] for name in LOGIN_VARIABLES})

    method = os.environ.get(VARIABLE)
    worker_method = None if method == RequestAuth.name else method  # of an outer block
    is_ours = connection.has_login and not connection.is_databricks and not worker_method
    previous = RequestAuth.login
    RequestAuth.login = Login(connection, set_login_variables) if is_ours else None
    try:
        with environment({VARIABLE: RequestAuth.name if is_ours else worker_method}):
            yield
    finally:
        RequestAuth.login = previous
