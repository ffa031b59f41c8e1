"""Why a server has rejected a login."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from mlflow_provider.server import findings
from mlflow_provider.server.logins.password import Password, Token

if TYPE_CHECKING:
    import requests

    from mlflow_provider.server.findings import Finding
    from mlflow_provider.server.logins.method import LoginMethod

TOLERATED_SECONDS = 60  # between the clocks of two machines


def finding_of(login: LoginMethod, response: requests.Response) -> Finding:
    """Return the finding for a response with status 401."""
    if not str(login):
        return findings.LOGIN_REQUIRED
    if abs(difference := _clock_difference(response)) > TOLERATED_SECONDS:
        return findings.CLOCKS_DIFFER.format(seconds=round(abs(difference)))
    if (age := time.time() - _expiry(response.request)) > 0:
        return findings.TOKEN_EXPIRED.format(seconds=round(age))
    if isinstance(login, (Password, Token)):
        return findings.LOGIN_REJECTED
    return findings.TOKEN_REJECTED.format(login=login)


def _clock_difference(response: requests.Response) -> float:
    try:
        return time.time() - parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return 0


def _expiry(request: requests.PreparedRequest) -> float:
    """Return when the token of a request expires, if it is a JSON Web Token that says so."""
    import jwt  # which Airflow requires

    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        return float(claims.get("exp", float("inf")))
    except (jwt.InvalidTokenError, TypeError, ValueError):
        return float("inf")
