"""Microsoft Entra ID, with the package ``azure-identity``."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_provider.server import findings
from mlflow_provider.server.logins.method import failed
from mlflow_provider.server.logins.renewable import RenewableLogin


@dataclass(frozen=True)
class AzureIdentity(RenewableLogin):
    """A token of the worker's identity: a managed identity, a workload identity, or variables.

    :param scope: the server that the token is for, e.g. ``api://mlflow/.default``.
    """

    package = "azure-identity"
    scope: str

    def __str__(self) -> str:
        return "the worker's Azure identity"

    def fetch(self, timeout: float) -> tuple[str, float]:
        from azure.core.exceptions import ClientAuthenticationError
        from azure.identity import DefaultAzureCredential

        try:
            token = DefaultAzureCredential().get_token(self.scope)
        except ClientAuthenticationError as error:
            reason = (error.message or "").strip().splitlines()[:1]
            finding = findings.IDENTITY_UNAVAILABLE.format(identity="Azure", reason="".join(reason))
            raise failed(finding) from None
        return token.token, float(token.expires_on)
