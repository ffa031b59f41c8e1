"""The login of each request to MLflow, which is read again when the server rejects it.

Imported with the first request, like :mod:`mlflow_provider.server.rest`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import requests
from requests.auth import HTTPBasicAuth
from requests.utils import rewind_body

if TYPE_CHECKING:
    from mlflow_provider.server.connection import MLflowConnection

log = logging.getLogger(__name__)

Authentication = Callable[[requests.PreparedRequest], requests.PreparedRequest]

# In Airflow 3.1, two threads of a task that read a connection at once may get each other's response.
_READING = threading.Lock()


class Login:
    """A ``requests`` authentication with a connection's login, which may change.

    A token may be replaced while a training runs for hours. Therefore a request that the server answers with
    401 is sent once more if the connection has a new login.

    :param connection: the connection.
    :param on_renewal: called with the connection when its login has changed.
    """

    def __init__(
        self, connection: MLflowConnection, on_renewal: Callable[[MLflowConnection], None] | None = None
    ) -> None:
        self.connection = connection
        self._on_renewal = on_renewal
        self._process = os.getpid()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.register_hook("response", partial(self._send_again, self.connection))
        return authentication(self.connection)(request)

    def _send_again(
        self, sent: MLflowConnection, response: requests.Response, **kwargs: Any
    ) -> requests.Response:
        # A request that was redirected to another server has no login.
        is_refused = response.status_code == requests.codes.unauthorized and (
            "Authorization" in response.request.headers
        )
        if not (is_refused and can_be_repeated(response.request) and self._has_changed(sent)):
            return response
        request = authentication(self.connection)(response.request.copy())
        if is_file(request):
            rewind_body(request)
        response.close()
        return response.connection.send(request, **kwargs)

    def _has_changed(self, sent: MLflowConnection) -> bool:
        if os.getpid() != self._process:  # a forked process shares the socket to Airflow with its parent
            return False
        with _READING:
            if self.connection is sent and (renewed := sent.with_new_login()):
                log.info("Login of connection %r has changed; using the new one.", sent.conn_id)
                self.connection = renewed
                if self._on_renewal:
                    self._on_renewal(renewed)
            return self.connection is not sent


def can_be_repeated(request: requests.PreparedRequest) -> bool:
    """Return whether the body of a request can be sent again; that of a generator cannot."""
    return isinstance(request.body, (str, bytes, type(None))) or is_file(request)


def is_file(request: requests.PreparedRequest) -> bool:
    """Return whether the body of a request is a file that can be rewound."""
    return isinstance(getattr(request, "_body_position", None), int)


def authentication(connection: MLflowConnection) -> Authentication:
    """Return the ``requests`` authentication for the login of a connection."""
    if connection.token:
        return partial(_bearer, connection.token)
    if connection.username:
        return basic(connection.username, connection.password or "")
    return _anonymous


def basic(username: str, password: str) -> Authentication:
    """Return basic authentication."""
    # As bytes: requests encodes strings as Latin-1, but MLflow's client and server use UTF-8.
    return HTTPBasicAuth(username.encode(), password.encode())


def _bearer(token: str, request: requests.PreparedRequest) -> requests.PreparedRequest:
    # An authentication, not a header: requests replaces the header if ~/.netrc has the host.
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request  # without an authentication, requests would use ~/.netrc
