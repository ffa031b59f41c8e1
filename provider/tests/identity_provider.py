"""A stand-in for an identity provider that issues tokens to clients; a pytest plugin.

Source: https://datatracker.ietf.org/doc/html/rfc6749#section-4.4
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import pytest

from http_servers import Handler, run_http_server

CLIENT_ID, CLIENT_SECRET = "airflow", "s3cret:/+% of airflow"
BASIC = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
AUDIENCE = "https://mlflow.example"


@dataclass
class IdentityProvider:
    """Issues tokens to one client.

    :param token_url: address where it issues tokens.
    :param lifetime: seconds for which a token is valid.
    :param error: status and body of the response instead of a token.
    :param hangs: whether to stop responding.
    :param requests: the forms of the requests so far.
    :param issued: when each token expires.
    """

    token_url: str
    lifetime: float = 600
    error: tuple[int, str] | None = None
    hangs: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)
    issued: dict[str, float] = field(default_factory=dict)

    @property
    def connection(self) -> dict[str, Any]:
        """The fields of an Airflow connection that uses it."""
        extra = {"token_url": self.token_url, "scope": "mlflow", "audience": AUDIENCE}
        return {"login": CLIENT_ID, "password": CLIENT_SECRET, "extra": extra}

    def accepts(self, received: Any) -> bool:
        """Return whether a request has a token that is valid."""
        scheme, _, token = (received.headers["Authorization"] or "").partition(" ")
        return scheme == "Bearer" and self.issued.get(token, 0) > time.time()

    def answer(self, authorization: str | None, form: dict[str, str]) -> tuple[int, str]:
        """Return status and body of the response to a request for a token."""
        self.requests.append(form)
        if self.error:
            return self.error
        if authorization != BASIC:
            return 401, '{"error": "invalid_client", "error_description": "Unknown client or secret"}'
        if form != {"grant_type": "client_credentials", "scope": "mlflow", "audience": AUDIENCE}:
            return 400, '{"error": "invalid_request", "error_description": "Audience is missing"}'
        token = f"issued-{uuid.uuid4().hex}"
        self.issued[token] = time.time() + self.lifetime
        return 200, json.dumps(
            {"access_token": token, "token_type": "Bearer", "expires_in": int(self.lifetime)}
        )


@contextmanager
def run_identity_provider() -> Iterator[IdentityProvider]:
    """Run an identity provider for a block."""
    ended = threading.Event()

    class TokenHandler(Handler):
        def do_POST(self) -> None:  # noqa: N802
            form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            if provider.hangs:
                ended.wait()
            status, body = provider.answer(self.headers["Authorization"], form)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

    with run_http_server(TokenHandler) as url:
        provider = IdentityProvider(f"{url}/token")
        yield provider
        ended.set()


@pytest.fixture
def identity_provider() -> Iterator[IdentityProvider]:
    """An identity provider."""
    with run_identity_provider() as provider:
        yield provider
