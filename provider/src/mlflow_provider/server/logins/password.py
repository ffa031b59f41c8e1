"""Name and password, or a token, as they are in the connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow_provider.server.logins.method import LoginMethod
from mlflow_provider.server.request_auth import NAME, VARIABLE


@dataclass(frozen=True)
class Password(LoginMethod):
    """Basic authentication.

    :param username: user name.
    """

    username: str

    def __str__(self) -> str:
        return self.username

    @property
    def variables(self) -> dict[str, str | None]:
        return {
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.secret,
            VARIABLE: NAME,
        }

    def authenticate(self, request: Any, timeout: float) -> Any:
        from requests.auth import HTTPBasicAuth

        # As bytes: requests encodes strings as Latin-1, but MLflow's client and server use UTF-8.
        return HTTPBasicAuth(self.username.encode(), (self.secret or "").encode())(request)


@dataclass(frozen=True)
class Token(LoginMethod):
    """A bearer token, the :attr:`secret`."""

    def __str__(self) -> str:
        return "a token"

    @property
    def variables(self) -> dict[str, str | None]:
        return {"MLFLOW_TRACKING_TOKEN": self.secret, VARIABLE: NAME}

    def authenticate(self, request: Any, timeout: float) -> Any:
        # An authentication, not a header: requests replaces the header if ~/.netrc has the host.
        request.headers["Authorization"] = f"Bearer {self.secret}"
        return request
