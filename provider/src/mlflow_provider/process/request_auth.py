"""The login of a connection as MLflow's ``RequestAuthProvider``; see the entry point of that name.

Imported by MLflow in every process that it finds the entry point in, so this module imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlflow_provider.server.login import Login

# MLflow's variable for the name of the provider to use.
VARIABLE = "MLFLOW_TRACKING_AUTH"


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
