"""Request-auth providers of MLflow that are installed here, e.g. ``kubernetes`` or a company's own.

Source: https://mlflow.org/docs/latest/ml/plugins/
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlflow_provider.server import findings
from mlflow_provider.server.deadline import run_with_timeout
from mlflow_provider.server.logins.method import LoginMethod, failed
from mlflow_provider.server.request_auth import VARIABLE


@dataclass(frozen=True)
class Plugin(LoginMethod):
    """What a request-auth provider adds to a request.

    :param name: the provider's name.
    """

    name: str

    def __str__(self) -> str:
        return f"auth {self.name}"

    @property
    def variables(self) -> dict[str, str | None]:
        return {VARIABLE: self.name}

    def authenticate(self, request: Any, timeout: float) -> Any:
        try:
            return run_with_timeout(partial(self._authenticate, request), timeout, f"auth {self.name!r}")
        except Exception as error:  # noqa: BLE001  # of a company's own code
            raise failed(findings.AUTH_FAILED.format(name=self.name, error=str(error).rstrip("."))) from None

    def _authenticate(self, request: Any) -> Any:
        from mlflow.tracking.request_auth.registry import fetch_auth

        with warnings.catch_warnings():  # for an unknown name it warns and returns None
            warnings.simplefilter("ignore")
            auth = fetch_auth(self.name)
        if auth is None:
            raise LookupError("no provider of this name is installed here")
        return auth(request)
