"""Databricks: a personal access token, or a service principal.

The ``mlflow`` package logs in with the Databricks SDK, which reads the variables.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_provider.server.logins.oauth import ClientCredentials
from mlflow_provider.server.logins.password import Token


@dataclass(frozen=True)
class PersonalAccessToken(Token):
    """A personal access token."""

    @property
    def variables(self) -> dict[str, str | None]:
        return {"DATABRICKS_TOKEN": self.secret}


@dataclass(frozen=True)
class ServicePrincipal(ClientCredentials):
    """A service principal, whose tokens the workspace itself issues.

    Source: https://docs.databricks.com/aws/en/dev-tools/auth/oauth-m2m
    """

    scope: str | None = "all-apis"

    @property
    def variables(self) -> dict[str, str | None]:
        return {"DATABRICKS_CLIENT_ID": self.client_id, "DATABRICKS_CLIENT_SECRET": self.secret}
