"""Bearer tokens that expire and are renewed, shared by the requests of a process and its children."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

from mlflow_provider.server import findings
from mlflow_provider.server.deadline import run_with_timeout
from mlflow_provider.server.logins.method import LoginMethod, failed
from mlflow_provider.server.request_auth import (
    LOGIN_VARIABLE,
    NAME,
    SECRET_VARIABLE,
    TOKEN_VARIABLE,
    VARIABLE,
)

MAX_MARGIN_SECONDS = 60.0  # between the renewal of a token and its end

_tokens: dict[RenewableLogin, tuple[str, float]] = {}  # each with the time of its renewal
_locks = [threading.RLock()]  # reentrant, because a signal handler may interrupt the thread that holds it
# A forked process may inherit a lock that no thread of it will release.
os.register_at_fork(after_in_child=lambda: _locks.__setitem__(0, threading.RLock()))


@dataclass(frozen=True)
class RenewableLogin(LoginMethod):
    """A login with a bearer token that expires."""

    package: ClassVar[str]  # that fetch() imports

    def fetch(self, timeout: float) -> tuple[str, float]:
        """Return a new token and the time when it expires, or the past if it must not be kept.

        :param timeout: seconds it may take.
        """
        raise NotImplementedError

    def authenticate(self, request: Any, timeout: float) -> Any:
        with _locks[0]:
            token, renewal = _tokens.get(self, ("", 0.0))
            if time.time() >= renewal:
                try:
                    token, end = run_with_timeout(partial(self.fetch, timeout), timeout, str(self))
                except ImportError:
                    missing = findings.LOGIN_PACKAGE_MISSING.format(login=self, package=self.package)
                    raise failed(missing) from None
                margin = min(MAX_MARGIN_SECONDS, max(0, end - time.time()) / 4)
                _tokens[self] = token, end - margin
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    def reject(self, authorization: str) -> None:
        with _locks[0]:
            token, _ = _tokens.get(self, ("", 0.0))
            if authorization == f"Bearer {token}":
                _tokens.pop(self, None)

    @property
    def variables(self) -> dict[str, str | None]:
        """The variables with which another process uses the token, and renews it if it has this package."""
        token, renewal = _tokens.get(self, (None, 0.0))
        settings = {each.name: getattr(self, each.name) for each in fields(self) if each.repr}
        method = [type(self).__module__, type(self).__name__]
        return {
            LOGIN_VARIABLE: json.dumps({"method": method, "settings": settings, "renewal": renewal}),
            SECRET_VARIABLE: self.secret,
            TOKEN_VARIABLE: token,
            VARIABLE: NAME,
        }


def from_environment() -> LoginMethod:
    """Return the login of the task that has started this program."""
    login = json.loads(os.environ[LOGIN_VARIABLE])
    module, name = login["method"]
    login_class = getattr(import_module(module), name)
    method: RenewableLogin = login_class(**login["settings"], secret=os.environ.get(SECRET_VARIABLE))
    if TOKEN_VARIABLE in os.environ:
        _tokens.setdefault(method, (os.environ[TOKEN_VARIABLE], login["renewal"]))
    return method
