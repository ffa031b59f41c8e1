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
    from mlflow_provider.server.logins.method import LoginMethod

# MLflow's variable for the name of the provider to use, and the name of this one.
VARIABLE = "MLFLOW_TRACKING_AUTH"
NAME = "airflow-connection"
LOGIN_VARIABLE = "AIRFLOW_MLFLOW_LOGIN"  # the settings of a login whose token expires
SECRET_VARIABLE = "AIRFLOW_MLFLOW_LOGIN_SECRET"  # noqa: S105  # alone, because Airflow masks it as it is
TOKEN_VARIABLE = "MLFLOW_TRACKING_TOKEN"  # noqa: S105

_outside: list[str | None] = []  # the variable outside of each block, the outermost first


class RequestAuth:
    """The login of the connection that :func:`mlflow_provider.process.tracking.tracking` uses.

    Not a subclass of ``RequestAuthProvider``, which would import ``mlflow``. In a program that the task
    starts, the login comes from the environment.
    """

    login: Login | None = None  # of the innermost block

    def get_name(self) -> str:
        return NAME

    def get_auth(self) -> Login | None:
        if not RequestAuth.login and LOGIN_VARIABLE in os.environ:
            from mlflow_provider.server.login import Login
            from mlflow_provider.server.logins.renewable import from_environment

            RequestAuth.login = Login(from_environment())
        return RequestAuth.login


def of_worker() -> str | None:
    """Return the request-auth provider that the worker's environment names, not one of a block."""
    name = _outside[0] if _outside else os.environ.get(VARIABLE)
    return None if name == NAME else name


@contextmanager
def use(connection: MLflowConnection) -> Iterator[None]:
    """Let the ``mlflow`` package, and the processes that a block starts, use a connection."""
    import requests
    from airflow.sdk.log import mask_secret

    from mlflow_provider.process.environment import environment, set_environment
    from mlflow_provider.server.login import Login

    def export(method: LoginMethod) -> None:
        changed = {name: value for name, value in method.environment.items() if os.environ.get(name) != value}
        if token := changed.get(TOKEN_VARIABLE):
            mask_secret(token)
        set_environment(changed)

    is_ours = connection.login.variables.get(VARIABLE) == NAME
    login = Login(connection.login, connection, on_use=export) if is_ours else None
    previous = RequestAuth.login
    _outside.append(os.environ.get(VARIABLE))
    try:
        with environment(connection.environment):
            if login:  # get a token, which the processes that the block starts share
                login(requests.Request("GET", connection.url).prepare())
            RequestAuth.login = login
            yield
    finally:
        _outside.pop()
        RequestAuth.login = previous
