"""HTTP to MLflow, and errors that say what to do.

Imported with the first request, because ``requests`` would add 0.2 s to every DAG parse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import requests

from mlflow_provider.exceptions import (
    MLflowAlreadyExistsError,
    MLflowAPIError,
    MLflowConfigurationError,
    MLflowNotFoundError,
    MLflowProviderError,
    MLflowUnreachableError,
)
from mlflow_provider.server import answers, findings
from mlflow_provider.server.logins import rejection
from mlflow_provider.server.session import NO_RESPONSE, finding_of, is_overloaded, is_transient

if TYPE_CHECKING:
    from mlflow_provider.server.connection import MLflowConnection
    from mlflow_provider.server.findings import Finding

API_PREFIX = "api/2.0/mlflow"
REGISTRY = (f"{API_PREFIX}/registered-models/", f"{API_PREFIX}/model-versions/")
MISSING_STATUS_CODES = (404, 405)
MAX_MESSAGE_LENGTH = 1000  # of a server's message, which may repeat a long input
UNKNOWN_WORKSPACE = re.compile("Workspace '.*' not found|workspaces are not enabled on this server")
# The whole response of MLflow's login server, which also gives it for a registered model that does not exist.
FORBIDDEN = "Permission denied"
CERTIFICATE_PAGE = "SSL certificate"  # in nginx's pages about a missing or a rejected one
TITLE = re.compile(r"<title>(.+?)</title>", re.IGNORECASE)
# In the address of a gateway's login page, or on the page itself.
LOGIN_PAGE = re.compile(
    r"/(log_?in|sign_?in|oauth2?|authorize|saml2?)\b|//accounts\.|type=.?password", re.IGNORECASE
)
READS_OF_REGISTRY = (
    "GET registered-models/",
    "GET model-versions/",
    "POST registered-models/get-latest-versions",
)


class NoResponseError(MLflowUnreachableError, requests.ConnectionError):
    """Also a ``requests`` error, as in 1.1.0; :mod:`~mlflow_provider.exceptions` imports no ``requests``."""


def send(
    session: requests.Session,
    connection: MLflowConnection,
    method: str,
    endpoint: str,
    params: Mapping[str, Any] | None = None,
    /,
    **request_kwargs: Any,
) -> requests.Response:
    """Send a request and return the response with any status; see :meth:`MLflowClientHook.run`.

    Redirects are not followed: ``requests`` would drop the login for another server, and turn a POST into a
    GET.
    """
    endpoint = endpoint.lstrip("/")
    connection = _at_registry(connection, endpoint)
    # Per request, because REQUESTS_CA_BUNDLE on the worker would override the session's.
    request_kwargs.setdefault("verify", connection.verify)
    if params is not None:
        request_kwargs["params" if method == "GET" else "json"] = params
    kwargs = {"allow_redirects": False, **request_kwargs}
    try:
        response = session.request(method, f"{connection.url}/{endpoint}", **kwargs)
    except NO_RESPONSE as error:
        # Without the five nested errors of requests, which would end the task's log.
        finding = finding_of(error).at(f"MLflow at {_server(connection)}")
        raise NoResponseError(finding, is_transient=is_transient(error)) from None
    if response.is_redirect and "allow_redirects" not in request_kwargs:
        finding = _redirection(response, endpoint).at(f"MLflow at {_server(connection)}")
        raise MLflowAPIError(finding, status_code=response.status_code)
    return response


def call(
    session: requests.Session,
    connection: MLflowConnection,
    method: str,
    path: str,
    params: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Call MLflow's API and return its response; see :meth:`MLflowClientHook.call`."""
    params = {key: value for key, value in (params or {}).items() if value is not None}
    endpoint = f"{API_PREFIX}/{path}"
    connection = _at_registry(connection, endpoint)
    response = send(session, connection, method, endpoint, params)
    request = f"{method} {path}"
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        answer = None
    if not (response.ok and isinstance(answer, dict)):
        raise _error(request, params, connection, response, answer if isinstance(answer, dict) else {})
    try:
        answers.check(request, answer)
    except ValueError as error:
        finding = findings.UNEXPECTED_ANSWER.format(problem=error).at(f"{request} at {_server(connection)}")
        raise MLflowAPIError(finding, status_code=response.status_code) from None
    return answer


def _at_registry(connection: MLflowConnection, endpoint: str) -> MLflowConnection:
    """Return the connection with the registry's address if the endpoint is one of the registry."""
    if not endpoint.startswith(REGISTRY):
        return connection
    return replace(connection, url=connection.registry_url(aliases=endpoint.endswith("/alias")))


def _error(
    request: str,
    params: Mapping[str, Any],
    connection: MLflowConnection,
    response: requests.Response,
    answer: Mapping[str, Any],
) -> MLflowProviderError:
    error_code, message = (
        value if isinstance(value := answer.get(key), str) else None for key in ("error_code", "message")
    )
    message = (message or _text_of(response) or "no message")[:MAX_MESSAGE_LENGTH]
    if connection.workspace and (problem := UNKNOWN_WORKSPACE.search(message)):
        fix = "correct or remove it"
        return MLflowConfigurationError(connection.conn_id, "Extra, workspace", problem[0], fix)
    error_class = {
        "RESOURCE_ALREADY_EXISTS": MLflowAlreadyExistsError,
        "RESOURCE_DOES_NOT_EXIST": MLflowNotFoundError,
    }.get(error_code or "", MLflowAPIError)
    finding = None
    if response.status_code == requests.codes.unauthorized:
        finding = rejection.finding_of(connection.login, response)
    elif "Invalid Host header" in response.text:
        finding = findings.HOST_REJECTED.format(host=urlsplit(connection.url).netloc)
    elif message == FORBIDDEN:
        finding = _forbidden(request, params)
        if request.startswith(READS_OF_REGISTRY):
            error_class = MLflowNotFoundError
    elif error_code is None and response.status_code == requests.codes.forbidden:
        finding = findings.ACCESS_DENIED.format(message=message)
    elif error_code is None:
        finding = finding_of_page(response, request)
    finding = finding or findings.of_message(message)
    status = f"{response.status_code} {error_code or response.reason}"
    return error_class(
        finding.at(f"{request} at {_server(connection)}: {status}"),
        # For callers that decide about retries, an overloaded server is a failing one.
        status_code=requests.codes.unavailable if is_overloaded(response) else response.status_code,
        error_code=error_code,
    )


def _text_of(response: requests.Response) -> str:
    """Return the title of a page, or the beginning of another response."""
    title = TITLE.search(response.text)
    return (title[1] if title else response.text).strip()[:300]


def _forbidden(request: str, params: Mapping[str, Any]) -> Finding:
    """Return what the login may not do, by the rules of MLflow's login server."""
    kinds = {"name": "registered model", "run_id": "run", "experiment_id": "experiment"}
    resource = next((f"{kind} {params[key]!r}" for key, kind in kinds.items() if key in params), None)
    if resource is None or request == "POST experiments/create":
        return findings.PERMISSION_DENIED.format(message=FORBIDDEN)
    if request.startswith(READS_OF_REGISTRY):
        return findings.MISSING_OR_FORBIDDEN.format(resource=resource)
    if request == "POST registered-models/create":
        return findings.FORBIDDEN.format(permission="USE", resource=f"the workspace of {resource}")
    permission = {"GET": "READ", "DELETE": "MANAGE"}.get(request.split()[0], "EDIT")
    return findings.FORBIDDEN.format(permission=permission, resource=resource)


def _server(connection: MLflowConnection) -> str:
    # A connection that is tested in the form has no ID yet.
    return connection.url + (f", connection {connection.conn_id!r}" if connection.conn_id else "")


def _redirection(response: requests.Response, endpoint: str) -> Finding:
    try:
        target = urlsplit(urljoin(response.url, response.headers["Location"]))
    except ValueError:
        return findings.REDIRECTED_ELSEWHERE.format(url="an invalid address")
    url = f"{target.scheme}://{target.netloc}{target.path}"  # a query may hold a secret
    if url.endswith(f"/{endpoint}"):
        return findings.REDIRECTED.format(url=url.removesuffix(f"/{endpoint}"))
    if LOGIN_PAGE.search(url):
        return findings.LOGIN_PAGE.format(url=url)
    return findings.REDIRECTED_ELSEWHERE.format(url=url)


def finding_of_page(response: requests.Response, request: str) -> Finding | None:
    """Return what is wrong if MLflow has not sent a response, but e.g. a gateway in front of it."""
    if CERTIFICATE_PAGE in response.text:
        return findings.CLIENT_CERTIFICATE_REJECTED.format(reason=_text_of(response))
    if response.status_code in findings.OF_GATEWAYS:
        return findings.OF_GATEWAYS[response.status_code]
    is_failure = response.status_code >= requests.codes.server_error
    is_page = response.text.lstrip().startswith("<") and not is_failure
    if is_page and LOGIN_PAGE.search(response.text):
        return findings.LOGIN_PAGE.format(url=response.url)
    if is_page or response.ok or response.status_code in MISSING_STATUS_CODES:
        return findings.NOT_MLFLOW.format(request=request)
    return None
