"""HTTP to MLflow: login, bounded retries, and errors that say what to do.

Imported when the first request is made: ``requests`` would cost every DAG parse 0.2 s.
"""

from __future__ import annotations

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
    with_advice,
)
from mlflow_provider.server import findings as causes
from mlflow_provider.server.login import Authentication, Login

if TYPE_CHECKING:
    from mlflow_provider.server.connection import MLflowConnection

API_PREFIX = "api/2.0/mlflow"
REGISTRY = (f"{API_PREFIX}/registered-models/", f"{API_PREFIX}/model-versions/")
CONNECT_TIMEOUT_SECONDS = 10.0
# As MLflow's own client: https://github.com/mlflow/mlflow/blob/master/mlflow/utils/request_utils.py
RETRIED_STATUS_CODES = (408, 429, 500, 502, 503, 504)
NOT_THERE = (404, 405)
MAX_MESSAGE_LENGTH = 1000  # of what the server says, which may repeat what it was given
BACKOFF_SECONDS = 2
# What MLflow says, as if the request were a bad one, when more requests wait than it has connections to its
# database.
OVERLOADED = "QueuePool limit of size"
# A server that asks for more with Retry-After is asked again earlier: a task is waiting.
MAX_RETRY_AFTER_SECONDS = 30.0
# All of requests' errors, a CA bundle that is missing, and what it lets through of urllib3's: a host name
# that has two dots in a row.
NO_ANSWER = (OSError, HTTPError)


class NoAnswerError(MLflowUnreachableError, requests.ConnectionError):
    """What callers of 1.1.0's ``run`` catch; defined here, as ``exceptions`` cannot import ``requests``."""


class _Retry(Retry):
    """As urllib3's, but there may be fewer further tries when no answer comes in time.

    :param read_retries: how many; None for as many as after other failures.
    """

    def __init__(self, *args: Any, read_retries: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.read_retries = read_retries

    def new(self, **kwargs: Any) -> Any:
        return super().new(read_retries=self.read_retries, **kwargs)

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        *rest: Any,
        **kwargs: Any,
    ) -> Any:
        before = sum(isinstance(failed.error, ReadTimeoutError) for failed in self.history)
        if isinstance(error, ReadTimeoutError) and before == self.read_retries:
            raise error
        return super().increment(method, url, response, error, *rest, **kwargs)

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
    :param auth_type: takes user name and password, returns a ``requests`` authentication; basic
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
        # Also of what is not idempotent, as MLflow's own client does: a server that is restarted is the
        # common case, an answer lost on its way back the rare one. `if_exists` is the way out of that.
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
    **request_kwargs: Any,
) -> requests.Response:
    """Send a request and return the answer, whatever its status.

    A redirect is not followed: ``requests`` would drop the login on its way to another server, and turn
    a POST into a GET.

    :param endpoint: path below the server's address.
    :param params: query of a GET, JSON body of anything else.
    :param request_kwargs: passed on to ``requests.Session.request``; with ``allow_redirects`` a redirect
        is followed, or returned.
    :raises MLflowUnreachableError: the request cannot be sent, or got no answer after all retries.
    :raises MLflowAPIError: the server redirects.
    :raises MLflowConfigurationError: the registry is asked for, which is in Unity Catalog.
    """
    endpoint = endpoint.lstrip("/")
    connection = _at_registry(connection, endpoint)
    connect_timeout = min(connection.timeout, CONNECT_TIMEOUT_SECONDS)
    request_kwargs.setdefault("timeout", (connect_timeout, connection.timeout))
    # Per request too: REQUESTS_CA_BUNDLE on the worker would win over the session's.
    request_kwargs.setdefault("verify", connection.verify)
    request_kwargs["params" if method == "GET" else "json"] = params
    kwargs = {"allow_redirects": False, **request_kwargs}
    try:
        response = session.request(method, f"{connection.url}/{endpoint}", **kwargs)
    except NO_ANSWER as error:
        # Without requests' five nested errors, which would be the last thing in the task's log.
        raise NoAnswerError(f"MLflow at {_server(connection)}: {_reason(error)}.") from None
    if response.is_redirect and "allow_redirects" not in request_kwargs:
        raise MLflowAPIError(
            f"MLflow at {_server(connection)}: {_redirection(response, endpoint)}.",
            status_code=response.status_code,
        )
    return response


def call(
    session: requests.Session,
    connection: MLflowConnection,
    method: str,
    path: str,
    params: Mapping[str, Any] | None = None,
    **request_kwargs: Any,
) -> dict[str, Any]:
    """Call MLflow's API and return what it answers; see :meth:`MLflowClientHook.call`."""
    given = {key: value for key, value in (params or {}).items() if value is not None}
    endpoint = f"{API_PREFIX}/{path}"
    connection = _at_registry(connection, endpoint)
    response = send(session, connection, method, endpoint, given, **request_kwargs)
    for failed in range(connection.retries):
        if not _is_overloaded(response):
            break
        time.sleep(BACKOFF_SECONDS * 2**failed)
        response = send(session, connection, method, endpoint, given, **request_kwargs)
    try:
        answer = response.json()
    except requests.JSONDecodeError:
        answer = None
    if response.ok and isinstance(answer, dict):
        return answer
    raise _error(f"{method} {path}", connection, response, answer if isinstance(answer, dict) else {})


def _at_registry(connection: MLflowConnection, endpoint: str) -> MLflowConnection:
    """Return a connection to the registry for its endpoints, as for the ``mlflow`` package."""
    is_registry = endpoint.startswith(REGISTRY)
    return replace(connection, url=connection.registry_url()) if is_registry else connection


def _is_overloaded(response: requests.Response) -> bool:
    return response.status_code == requests.codes.bad_request and OVERLOADED in response.text


def _error(
    request: str, connection: MLflowConnection, response: requests.Response, answer: Mapping[str, Any]
) -> MLflowAPIError:
    error_code = answer.get("error_code")
    advice = _advice(connection, response, request, error_code)
    said = advice or with_advice(
        str(answer.get("message") or response.text.strip()[:300])[:MAX_MESSAGE_LENGTH]
    )
    error_class = {
        "RESOURCE_ALREADY_EXISTS": MLflowAlreadyExistsError,
        "RESOURCE_DOES_NOT_EXIST": MLflowNotFoundError,
    }.get(error_code or "", MLflowAPIError)
    return error_class(
        f"{request} at {_server(connection)}: {response.status_code} {error_code or response.reason}: {said}",
        # To whoever decides whether to try again, an overloaded server is one that fails.
        status_code=requests.codes.unavailable if _is_overloaded(response) else response.status_code,
        error_code=error_code,
    )


def _server(connection: MLflowConnection) -> str:
    # The form tests a connection that has no ID yet.
    return connection.url + (f" (connection {connection.conn_id!r})" if connection.conn_id else "")


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        # Depending on OpenSSL, the first answer in clear text is one or the other.
        if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text:
            return causes.SPEAKS_HTTP
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return causes.UNTRUSTED
    if "NameResolutionError" in text or "IDNA" in text:
        return causes.UNKNOWN_HOST
    if "refused" in text:
        return causes.REFUSED
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return causes.TIMED_OUT
    if "RemoteDisconnected" in text or "Connection reset" in text:
        return causes.HANGS_UP
    if isinstance(error, requests.exceptions.InvalidHeader):  # whose text shows the header, perhaps a secret
        return "a header holds a line break or begins with a space"
    return text


def _redirection(response: requests.Response, endpoint: str) -> str:
    target = urlsplit(urljoin(response.url, response.headers["Location"]))
    url = f"{target.scheme}://{target.netloc}{target.path}"  # a query may hold a secret
    if url.endswith(f"/{endpoint}"):
        return causes.REDIRECTED.format(url=url.removesuffix(f"/{endpoint}"))
    return causes.REDIRECTED_ELSEWHERE.format(url=url)


def _advice(
    connection: MLflowConnection, response: requests.Response, request: str, error_code: str | None
) -> str | None:
    """Say what to do about an answer that is not about the request but about the way to the server."""
    if response.status_code == requests.codes.unauthorized:
        return causes.WRONG_LOGIN if connection.has_login else causes.NO_LOGIN
    if "Invalid Host header" in response.text:
        return causes.UNKNOWN_TO_ITSELF.format(host=urlsplit(connection.url).netloc)
    is_failure = response.status_code >= requests.codes.server_error
    is_page = response.text.lstrip().startswith("<") and not is_failure
    if error_code is None and (is_page or response.ok or response.status_code in NOT_THERE):
        return causes.NOT_MLFLOW.format(request=request)
    return None
