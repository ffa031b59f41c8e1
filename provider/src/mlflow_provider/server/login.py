"""The login of each request to MLflow, which is renewed when the server rejects it.

A program that a task starts also imports this module, so it imports no Airflow.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import requests
from requests.utils import rewind_body

from mlflow_provider.server import limits

if TYPE_CHECKING:
    from mlflow_provider.server.connection import MLflowConnection
    from mlflow_provider.server.logins.method import LoginMethod

log = logging.getLogger(__name__)

Authentication = Callable[[requests.PreparedRequest], requests.PreparedRequest]

# In Airflow 3.1, two threads of a task that read a connection at once may get each other's response.
_READING = threading.Lock()


class Login(requests.auth.AuthBase):
    """A ``requests`` authentication with a login that may change.

    A token may expire or be replaced while a training runs for hours. Therefore a request that the server
    answers with 401 is sent once more if there is a new login: the method's own, or that of the connection.

    :param method: the login method.
    :param read_again: returns the connection's login if it has changed since.
    :param on_use: called with the login method after each use in this process.
    :param timeout: seconds in which a method must have a login.
    :param retry_timeout: seconds in which a method tries again to get one.
    """

    def __init__(
        self,
        method: LoginMethod,
        *,
        read_again: Callable[[], LoginMethod | None] = lambda: None,
        on_use: Callable[[LoginMethod], object] = bool,
        timeout: float = limits.DEFAULT_TIMEOUT_SECONDS,
        retry_timeout: float = limits.DEFAULT_RETRY_TIMEOUT_SECONDS,
    ) -> None:
        self.method = method
        self._read_again = read_again
        self._on_use = on_use
        self._timeout = timeout
        self._retry_timeout = retry_timeout
        self._process = os.getpid()

    @classmethod
    def of(cls, connection: MLflowConnection, **callbacks: Any) -> Login:
        """Return the login of a connection, with its limits."""
        return cls(
            connection.login,
            read_again=connection.read_login_again,
            timeout=connection.timeout,
            retry_timeout=connection.retry_timeout,
            **callbacks,
        )

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.register_hook("response", partial(self._send_again, self.method))
        return self._authenticate(request)

    def _authenticate(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        method, deadline = self.method, time.monotonic() + self._retry_timeout
        for attempt in count():
            try:
                authenticated = method.authenticate(request, self._timeout)
                break
            except Exception as error:
                wait = limits.backoff(attempt)
                if getattr(error, "is_transient", False) and time.monotonic() + wait < deadline:
                    log.warning("%s Retrying in %.0f s.", error, wait)
                    time.sleep(wait)
                elif self._has_changed(method):  # e.g. the client secret
                    return self._authenticate(request)
                else:
                    raise
        if os.getpid() == self._process:
            self._on_use(method)
        return authenticated

    def _send_again(self, sent: LoginMethod, response: requests.Response, **kwargs: Any) -> requests.Response:
        request = response.request.copy()
        refused = request.headers.pop("Authorization", "")
        is_refused = response.status_code == requests.codes.unauthorized
        # A request that was redirected to another server has no login.
        if not (is_refused and refused and can_be_repeated(request)):
            return response
        self.method.reject(refused)
        request.prepare_auth(self._authenticate)
        if request.headers.get("Authorization") == refused:
            if not self._has_changed(sent):
                return response
            request.prepare_auth(self._authenticate)
        if is_file(request):
            rewind_body(request)
        response.close()
        return response.connection.send(request, **kwargs)

    def _has_changed(self, method: LoginMethod) -> bool:
        if os.getpid() != self._process:  # a forked process shares the socket to Airflow with its parent
            return False
        with _READING:
            if self.method is method and (new := self._read_again()):
                self.method = new
            return self.method is not method


def can_be_repeated(request: requests.PreparedRequest) -> bool:
    """Return whether the body of a request can be sent again; that of a generator cannot."""
    return isinstance(request.body, (str, bytes, type(None))) or is_file(request)


def is_file(request: requests.PreparedRequest) -> bool:
    """Return whether the body of a request is a file that can be rewound."""
    return isinstance(getattr(request, "_body_position", None), int)
