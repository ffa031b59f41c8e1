"""HTTP to MLflow: login, bounded retries, and errors that say what to do.

Imported with the first request, because ``requests`` would add 0.2 s to every DAG parse.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util import Retry

from mlflow_provider.exceptions import (
    MLflowAlreadyExistsError,
    MLflowAPIError,
    MLflowNotFoundError,
    MLflowUnreachableError,
    chain,
)
from mlflow_provider.server import findings
from mlflow_provider.server.login import Authentication, Login

if TYPE_CHECKING:
    from mlflow_provider.server.connection import MLflowConnection
    from mlflow_provider.server.findings import Finding

API_PREFIX = "api/2.0/mlflow"
REGISTRY = (f"{API_PREFIX}/registered-models/", f"{API_PREFIX}/model-versions/")
CONNECT_TIMEOUT_SECONDS = 10.0
# As MLflow's own client: https://github.com/mlflow/mlflow/blob/master/mlflow/utils/request_utils.py
RETRIED_STATUS_CODES = (408, 429, 500, 502, 503, 504)
MISSING_STATUS_CODES = (404, 405)
MAX_MESSAGE_LENGTH = 1000  # of a server's message, which may repeat a long input
BACKOFF_SECONDS = 2
# MLflow's message, with status 400, when more requests wait than it has connections to its database.
OVERLOADED = "QueuePool limit of size"
# A longer Retry-After is cut to this, because a task is waiting.
MAX_RETRY_AFTER_SECONDS = 30.0
# All errors of requests, a missing CA bundle (OSError), and an error of urllib3 that requests does not wrap:
# a host name with two dots in a row.
NO_RESPONSE = (OSError, HTTPError)
# OpenSSL reports a reason for this, but no class, and Python knows the newer reason only by its text.
NOT_TLS = re.compile("WRONG_VERSION_NUMBER|record layer failure")
FINDINGS: dict[type[BaseException], Finding] = {
    ssl.SSLCertVerificationError: findings.CERTIFICATE_NOT_TRUSTED,
    socket.gaierror: findings.HOST_NOT_RESOLVED,
    UnicodeError: findings.HOST_NOT_RESOLVED,  # the host name cannot be encoded in ASCII
    requests.exceptions.InvalidURL: findings.HOST_NOT_RESOLVED,
    ConnectionRefusedError: findings.CONNECTION_REFUSED,
    TimeoutError: findings.TIMED_OUT,
    ConnectionResetError: findings.CONNECTION_CLOSED,
    requests.exceptions.InvalidHeader: findings.INVALID_HEADER,  # its own text shows the value
}


class NoResponseError(MLflowUnreachableError, requests.ConnectionError):
    """Also a ``requests`` error, as in 1.1.0; :mod:`~mlflow_provider.exceptions` imports no ``requests``."""


class _Retry(Retry):
    """urllib3's ``Retry`` with a separate number of retries for read timeouts.

    urllib3's own ``read`` would also count a connection that a restarting server closes.

    :param read_retries: the number of these retries; None for as many as after other failures.
    """

    def __init__(self, *args: Any, read_retries: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.read_retries = read_retries

    def new(self, **kwargs: Any) -> Any:
        return super().new(read_retries=self.read_retries, **kwargs)

    def increment(self, *args: Any, error: Exception | None = None, **kwargs: Any) -> Any:
        timeouts = sum(isinstance(attempt.error, ReadTimeoutError) for attempt in self.history)
        if isinstance(error, ReadTimeoutError) and timeouts == self.read_retries:
            raise error
        return super().increment(*args, error=error, **kwargs)  # type: ignore[misc]  # urllib3 names it

    def get_retry_after(self, response: Any) -> float | None:
        seconds = super().get_retry_after(response)
        return None if seconds is None else min(seconds, MAX_RETRY_AFTER_SECONDS)


def new_session(
    connection: MLflowConnection,
    *,
    auth_type: Callable[[str, str], Authentication] | None = None,
    read_retries: int | None = None,
    pool_from: requests.Session | None = None,
) -> requests.Session:
    """Return a session with the connection's login, TLS verification and retries.

    :param connection: the server.
    :param auth_type: returns a ``requests`` authentication for a user name and password; basic
        authentication by default.
    :param read_retries: how often to retry when no response came in time; as often as after other
        failures by default.
    :param pool_from: another session, whose TCP connections it shares.
    """
    session = requests.Session()
    session.headers.update(connection.headers)
    if connection.workspace:
        session.headers["X-MLFLOW-WORKSPACE"] = connection.workspace
    session.verify = connection.verify
    if auth_type and connection.username:
        session.auth = auth_type(connection.username, connection.password or "")
    else:
        session.auth = Login(connection)
    retry = _Retry(
        total=connection.retries,
        read_retries=read_retries,
        status_forcelist=RETRIED_STATUS_CODES,
        # Also methods that are not idempotent, as in MLflow's own client: a restarting server is common, a
        # lost response rare, and `if_exists` covers that.
        allowed_methods=None,
        backoff_factor=BACKOFF_SECONDS,  # waits 0, 4, 8, 16 seconds
        raise_on_status=False,
    )
    adapter = HTTPAdapter(max_retries=retry)
    other = pool_from.get_adapter(connection.url) if pool_from else None
    if isinstance(other, HTTPAdapter):
        adapter.poolmanager = other.poolmanager
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


def send(
    session: requests.Session,
    connection: MLflowConnection,
    method: str,
    endpoint: str,
    params: Mapping[str, Any] | None = None,
    /,
    **request_kwargs: Any,
) -> requests.Response:
    """Send a request and return the response with any status.

    Redirects are not followed: ``requests`` would drop the login for another server, and turn a POST into a
    GET.

    :param endpoint: path below the server's address.
    :param params: query of a GET, JSON body of anything else.
    :param request_kwargs: passed to ``requests.Session.request``; ``allow_redirects`` decides whether a
        redirect is followed or returned.
    :raises MLflowUnreachableError: the request cannot be sent, or got no response after all retries.
    :raises MLflowAPIError: the server redirects.
    :raises MLflowConfigurationError: the request is for the registry, which is in Unity Catalog, or for an
        alias, which the registry of a Databricks workspace lacks.
    """
    endpoint = endpoint.lstrip("/")
    connection = _at_registry(connection, endpoint)
    connect_timeout = min(connection.timeout, CONNECT_TIMEOUT_SECONDS)
    request_kwargs.setdefault("timeout", (connect_timeout, connection.timeout))
    # Per request, because REQUESTS_CA_BUNDLE on the worker would override the session's.
    request_kwargs.setdefault("verify", connection.verify)
    if params is not None:
        request_kwargs["params" if method == "GET" else "json"] = params
    kwargs = {"allow_redirects": False, **request_kwargs}
    try:
        response = session.request(method, f"{connection.url}/{endpoint}", **kwargs)
    except NO_RESPONSE as error:
        # Without the five nested errors of requests, which would end the task's log.
        raise NoResponseError(_finding_of(error).about(f"MLflow at {_server(connection)}")) from None
    if response.is_redirect and "allow_redirects" not in request_kwargs:
        finding = _redirection(response, endpoint).about(f"MLflow at {_server(connection)}")
        raise MLflowAPIError(finding, status_code=response.status_code)
    return response


def call(
    session: requests.Session,
    connection: MLflowConnection,
    method: str,
    path: str,
    params: Mapping[str, Any] | None = None,
    **request_kwargs: Any,
) -> dict[str, Any]:
    """Call MLflow's API and return its response; see :meth:`MLflowClientHook.call`."""
    params = {key: value for key, value in (params or {}).items() if value is not None}
    endpoint = f"{API_PREFIX}/{path}"
    connection = _at_registry(connection, endpoint)
    response = send(session, connection, method, endpoint, params, **request_kwargs)
    for retry in range(connection.retries):
        if not _is_overloaded(response):
            break
        time.sleep(BACKOFF_SECONDS * 2**retry)
        response = send(session, connection, method, endpoint, params, **request_kwargs)
    try:
        answer = response.json()
    except requests.JSONDecodeError:
        answer = None
    if response.ok and isinstance(answer, dict):
        return answer
    raise _error(f"{method} {path}", connection, response, answer if isinstance(answer, dict) else {})


def _at_registry(connection: MLflowConnection, endpoint: str) -> MLflowConnection:
    """Return the connection with the registry's address if the endpoint is one of the registry."""
    if not endpoint.startswith(REGISTRY):
        return connection
    return replace(connection, url=connection.registry_url(aliases=endpoint.endswith("/alias")))


def _is_overloaded(response: requests.Response) -> bool:
    return response.status_code == requests.codes.bad_request and OVERLOADED in response.text


def _error(
    request: str, connection: MLflowConnection, response: requests.Response, answer: Mapping[str, Any]
) -> MLflowAPIError:
    error_code = answer.get("error_code")
    message = str(answer.get("message") or response.text.strip()[:300] or "no message")[:MAX_MESSAGE_LENGTH]
    finding = _finding_at_server(connection, response, request, error_code) or findings.of_message(message)
    error_class = {
        "RESOURCE_ALREADY_EXISTS": MLflowAlreadyExistsError,
        "RESOURCE_DOES_NOT_EXIST": MLflowNotFoundError,
    }.get(error_code or "", MLflowAPIError)
    status = f"{response.status_code} {error_code or response.reason}"
    return error_class(
        finding.about(f"{request} at {_server(connection)}: {status}"),
        # For callers that decide about retries, an overloaded server is a failing one.
        status_code=requests.codes.unavailable if _is_overloaded(response) else response.status_code,
        error_code=error_code,
    )


def _server(connection: MLflowConnection) -> str:
    # A connection that is tested in the form has no ID yet.
    return connection.url + (f" (connection {connection.conn_id!r})" if connection.conn_id else "")


def _finding_of(error: Exception) -> Finding:
    """Return the finding for a missing response, by error types that every urllib3 has."""
    for each in chain(error):
        for error_class, finding in FINDINGS.items():
            if isinstance(each, error_class):
                return finding
        if isinstance(each, ssl.SSLError) and NOT_TLS.search(str(each)):
            return findings.NOT_HTTPS
    return findings.UNEXPECTED.format(message=str(error).removesuffix("."))


def _redirection(response: requests.Response, endpoint: str) -> Finding:
    target = urlsplit(urljoin(response.url, response.headers["Location"]))
    url = f"{target.scheme}://{target.netloc}{target.path}"  # a query may hold a secret
    if url.endswith(f"/{endpoint}"):
        return findings.REDIRECTED.format(url=url.removesuffix(f"/{endpoint}"))
    return findings.REDIRECTED_ELSEWHERE.format(url=url)


def _finding_at_server(
    connection: MLflowConnection, response: requests.Response, request: str, error_code: str | None
) -> Finding | None:
    """Return what is wrong with the server or the login, not with the request."""
    if response.status_code == requests.codes.unauthorized:
        return findings.LOGIN_REJECTED if connection.has_login else findings.LOGIN_REQUIRED
    if "Invalid Host header" in response.text:
        return findings.HOST_REJECTED.format(host=urlsplit(connection.url).netloc)
    is_failure = response.status_code >= requests.codes.server_error
    is_page = response.text.lstrip().startswith("<") and not is_failure
    if error_code is None and (is_page or response.ok or response.status_code in MISSING_STATUS_CODES):
        return findings.NOT_MLFLOW.format(request=request)
    return None
