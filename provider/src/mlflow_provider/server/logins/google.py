"""Google ID tokens, for Cloud Run and Identity-Aware Proxy, with the package ``google-auth``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timezone

from mlflow_provider.server import findings
from mlflow_provider.server.logins.method import failed
from mlflow_provider.server.logins.renewable import RenewableLogin


@dataclass(frozen=True)
class GoogleIdentity(RenewableLogin):
    """An ID token of the worker's service account: a key file, or the metadata server.

    :param audience: the address of the Cloud Run service, or the client ID of Identity-Aware Proxy.
    """

    package = "google-auth"
    audience: str

    def __str__(self) -> str:
        return "the worker's Google service account"

    def fetch(self, timeout: float) -> tuple[str, float]:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request
        from google.oauth2.id_token import fetch_id_token_credentials

        try:
            credentials = fetch_id_token_credentials(self.audience, Request())
            credentials.refresh(Request())
        except (GoogleAuthError, ValueError) as error:
            reason = str(error)[:300].rstrip(".")
            finding = findings.IDENTITY_UNAVAILABLE.format(identity="Google", reason=reason)
            raise failed(finding, is_transient=bool(getattr(error, "retryable", False))) from None
        return credentials.token, credentials.expiry.replace(tzinfo=timezone.utc).timestamp()
