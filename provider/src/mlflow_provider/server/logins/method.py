"""The interface of all login methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_provider.server import request_auth

if TYPE_CHECKING:
    from mlflow_provider.server.findings import Finding

# All variables of MLflow's client, of the Databricks SDK and of this package that contain a login.
VARIABLES = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "DATABRICKS_TOKEN",
    "DATABRICKS_CLIENT_ID",
    "DATABRICKS_CLIENT_SECRET",
    request_auth.VARIABLE,
    request_auth.TOKEN_VARIABLE,
    request_auth.LOGIN_VARIABLE,
    request_auth.SECRET_VARIABLE,
)


@dataclass(frozen=True)
class LoginMethod:
    """A login method; this one sends no login.

    :param secret: a password, token or client secret.
    """

    secret: str | None = field(default=None, repr=False, kw_only=True)

    def __str__(self) -> str:
        """Describe the login without its secret; empty if there is none."""
        return ""

    @property
    def variables(self) -> dict[str, str | None]:
        """The variables that MLflow's client and its plugins read."""
        return {}

    @property
    def environment(self) -> dict[str, str | None]:
        """The variables of this method, and None for those of all others."""
        return {**dict.fromkeys(VARIABLES), **self.variables}

    def authenticate(self, request: Any, timeout: float) -> Any:
        """Add the login to a ``requests.PreparedRequest``, and return it.

        :param timeout: seconds it may take.
        """
        return request  # without an authentication, requests would use ~/.netrc

    def reject(self, authorization: str) -> None:
        """Forget what an ``Authorization`` header contains, because the server has rejected it."""


def failed(finding: Finding, *, is_transient: bool = False) -> Exception:
    """Return the error of a method that has no login for a request."""
    from mlflow_provider.exceptions import MLflowLoginError  # imports Airflow

    return MLflowLoginError(finding, is_transient=is_transient)
