"""OAuth client credentials (RFC 6749, section 4.4), with the package ``authlib``."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from mlflow_provider.server import findings
from mlflow_provider.server.logins.method import failed
from mlflow_provider.server.logins.renewable import RenewableLogin


@dataclass(frozen=True)
class ClientCredentials(RenewableLogin):
    """A token of an identity provider for a client, e.g. a service account.

    :param client_id: client ID.
    :param token_url: address where the identity provider issues tokens.
    :param scope: scopes, separated by spaces.
    :param audience: the server that the token is for; some identity providers require it.
    :param verify: whether to check the identity provider's TLS certificate, or the path of a CA bundle.
    """

    package = "authlib"
    client_id: str
    token_url: str
    scope: str | None = None
    audience: str | None = None
    verify: bool | str = True

    def __str__(self) -> str:
        return f"the client {self.client_id} of {self.token_url}"

    def fetch(self, timeout: float) -> tuple[str, float]:
        import requests
        from authlib.integrations.base_client import OAuthError
        from authlib.integrations.requests_client import OAuth2Session

        audience = {"audience": self.audience} if self.audience else {}
        options = {"verify": self.verify, "timeout": timeout, "allow_redirects": False}
        try:
            with OAuth2Session(self.client_id, self.secret, scope=self.scope) as session:
                token = session.fetch_token(
                    self.token_url, grant_type="client_credentials", **audience, **options
                )
        except OAuthError as error:
            reason = f"{error.error}: {error.description}" if error.description else error.error
            refusal = findings.TOKEN_REFUSED.format(url=self.token_url, reason=reason.rstrip("."))
            raise failed(refusal) from None
        except (requests.RequestException, OSError, ValueError) as error:
            raise self._unavailable(error) from None
        if not isinstance(token.get("access_token"), str):
            raise failed(findings.TOKEN_REFUSED.format(url=self.token_url, reason="no access_token"))
        lifetime = token.get("expires_in")
        return token["access_token"], time.time() + float(lifetime) if lifetime else math.inf

    def _unavailable(self, error: Exception) -> Exception:
        from mlflow_provider.exceptions import RETRIED_STATUS_CODES
        from mlflow_provider.server.session import finding_of, is_transient

        if (response := getattr(error, "response", None)) is not None:
            reason = f"{response.status_code} {response.reason}"
            may_pass = response.status_code in RETRIED_STATUS_CODES
        else:
            reason, may_pass = finding_of(error).finding, is_transient(error)
        finding = findings.TOKEN_URL_UNREACHABLE.format(url=self.token_url, reason=reason)
        return failed(finding, is_transient=may_pass)
