"""The login of each request to MLflow, which is renewed when the server rejects it.

A program that a task starts also imports this module, so it imports no Airflow.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
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
    :param connection: the connection with this login; None in a program that a task starts.
    :param on_use: called with the login method after each use in this process.
    """

    def __init__(
        self,
        method: LoginMethod,
        connection: MLflowConnection | None = None,
        *,
        on_use: Callable[[LoginMethod], object] = bool,
    ) -> None:
        self.method = method
        self._connection = connection
        self._limits = connection or limits.DEFAULT
        self._on_use = on_use
        self._process = os.getpid()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.register_hook("response", partial(self._send_again, self.method))
        return self._authenticate(request)

    def _authenticate(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        deadline = time.monotonic() + self._limits.retry_timeout
        for attempt in count():
            method = self.method
            try:
                authenticated = method.authenticate(request, self._limits.timeout)
                break
            except Exception as error:
                wait = limits.backoff(attempt)
                if getattr(error, "is_transient", False) and time.monotonic() + wait < deadline:
                    log.warning("%s Retrying in %.0f s.", error, wait)
                    time.sleep(wait)
                elif not self._has_changed(method):  # e.g. the client secret
                    raise
        if os.getpid() == self._process:
            self._on_use(method)
        return authenticated

    def _send_again(self, sent: LoginMethod, response: requests.Response, **kwargs: Any) -> requests.Response:
        request = response.request.copy()
        refused = request.headers.pop("Authorization", "")
        is_refused = response.status_code == requests.codes.unauthorized
        # A request that was redirected to another server has no login.
        if not (is_refused and refused and rewind(request)):
            return response
        self.method.reject(refused)
        request.prepare_auth(self._authenticate)
        if request.headers.get("Authorization") == refused:
            if not self._has_changed(sent):
                return response
            request.prepare_auth(self._authenticate)
        response.close()
        return response.connection.send(request, **kwargs)

    def _has_changed(self, method: LoginMethod) -> bool:
        # A forked process shares the socket to Airflow with its parent.
        if not self._connection or os.getpid() != self._process:
            return False
        with _READING:
            if self.method is method and (new := self._connection.read_login_again(method)):
                self.method = new
            return self.method is not method


def rewind(request: requests.PreparedRequest) -> bool:
    """Rewind the body of a request to send it again; return False if it cannot be, e.g. a generator."""
    with suppress(requests.exceptions.UnrewindableBodyError):
        if not isinstance(request.body, (str, bytes, type(None))):
            rewind_body(request)
        return True
    return False
