"""The ``requests`` session for MLflow: login, retries, limits, and findings for requests without a response.

Imported with the first request, like :mod:`mlflow_provider.server.rest`.
"""

from __future__ import annotations

import io
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPResponse
from itertools import count
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from mlflow_provider.exceptions import FEATURE_DISABLED, RETRIED_STATUS_CODES, chain
from mlflow_provider.server import findings, limits, request_headers
from mlflow_provider.server.deadline import run_with_timeout, seconds_left, within
from mlflow_provider.server.findings import clean
from mlflow_provider.server.login import Authentication, Login, rewind
from mlflow_provider.server.logins.password import Password

if TYPE_CHECKING:
    from mlflow_provider.server.connection import MLflowConnection
    from mlflow_provider.server.findings import Finding

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 10.0
# The last attempt gets this long, even at the end of the time for retries.
MIN_TIMEOUT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 64 * 1024 * 1024  # after decompression
# A server that limits the rate of requests is alive. With three requests a second, 64 tasks wait for minutes.
RATE_LIMITED_FACTOR = 4
# MLflow's message, with status 400, when more requests wait than it has connections to its database.
OVERLOADED = "QueuePool limit of size"
# All errors of requests, a missing CA bundle (OSError), and an error of urllib3 that requests does not wrap:
# a host name with two dots in a row.
NO_RESPONSE = (OSError, urllib3.exceptions.HTTPError)
# Of these, the ones that another attempt may avoid.
TRANSIENT = (
    TimeoutError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.InvalidHeader,  # of the response
)
# OpenSSL reports a reason for this, but no class, and Python knows the newer reason only by its text.
NOT_TLS = re.compile("WRONG_VERSION_NUMBER|record layer failure")
# The alerts of a server about the client's certificate.
CERTIFICATE_ALERT = re.compile(
    r"alert (certificate \w+|bad certificate|unknown ca|handshake failure|access denied)"
)
FINDINGS: dict[type[BaseException], Finding] = {
    ssl.SSLCertVerificationError: findings.CERTIFICATE_NOT_TRUSTED,
    socket.gaierror: findings.HOST_NOT_RESOLVED,
    UnicodeError: findings.HOST_NOT_RESOLVED,  # the host name cannot be encoded in ASCII
    requests.exceptions.InvalidURL: findings.HOST_NOT_RESOLVED,
    ConnectionRefusedError: findings.CONNECTION_REFUSED,
    TimeoutError: findings.TIMED_OUT,
    ConnectionResetError: findings.CONNECTION_CLOSED,
    urllib3.exceptions.InvalidHeader: findings.MALFORMED_RESPONSE,
    requests.exceptions.InvalidHeader: findings.INVALID_HEADER,  # its own text shows the value
}
PERMANENT = (
    findings.CERTIFICATE_NOT_TRUSTED,
    findings.CERTIFICATE_FOR_OTHER_HOST,
    findings.CLIENT_CERTIFICATE_REJECTED,
    findings.NOT_HTTPS,
    findings.INVALID_HEADER,
)
OTHER_HOST = (62, 64)  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH

Outcome = requests.Response | Exception


class Session(requests.Session):
    """A session that retries failed requests, and limits each exchange in time and size.

    It also retries requests that are not idempotent, as MLflow's own client does up to 3.17. The body of a
    successful response with ``stream=True`` has no limits.

    :param connection: the server and the login. Its ``timeout`` applies to each attempt, its
        ``retry_timeout`` to all of them.
    :param auth_type: returns a ``requests`` authentication for a user name and password; basic
        authentication by default.
    :param repeat: whether to repeat a request that the server may have received.
    :param pool_from: another session, whose TCP connections it shares.
    """

    def __init__(
        self,
        connection: MLflowConnection,
        *,
        auth_type: Callable[[str, str], Authentication] | None = None,
        repeat: bool = True,
        pool_from: requests.Session | None = None,
    ) -> None:
        super().__init__()
        self._connection = connection
        self._repeat = repeat
        self.verify = connection.verify
        self.cert = connection.client_cert
        self.headers.update(connection.headers)
        if connection.workspace:
            self.headers["X-MLFLOW-WORKSPACE"] = connection.workspace
        if auth_type and isinstance(connection.login, Password):
            self.auth = auth_type(connection.login.username, connection.login.secret or "")
        else:
            self.auth = Login(connection.login, connection)
        adapter = pool_from.get_adapter(connection.url) if pool_from else _Adapter()
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Also add the headers of MLflow's header providers, unless the connection or the caller has them."""
        if request_headers.plugins():
            headers = run_with_timeout(
                request_headers.of_plugins, self._connection.timeout, "A header provider of MLflow"
            )
            request.headers = {**headers, **self.headers, **request.headers}
        return super().prepare_request(request)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request until the server responds to it, or the time for retries is over.

        A ``Retry-After`` that is longer than the rest of the time is cut to it, so that every server gets one
        more attempt at the end.
        """
        timeout = kwargs.pop("timeout", None)
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        read = read or self._connection.timeout
        connect = min(connect or CONNECT_TIMEOUT_SECONDS, read)
        started = time.monotonic()
        for attempt in count():
            try:
                outcome: Outcome = self._exchange(request, connect, read, **kwargs)
            except NO_RESPONSE as error:
                outcome = error
            failure = _transient_failure(outcome)
            is_limited = getattr(outcome, "status_code", None) == requests.codes.too_many_requests
            patience = self._connection.retry_timeout * (RATE_LIMITED_FACTOR if is_limited else 1)
            left = min(started + patience - time.monotonic(), seconds_left())
            may_repeat = self._repeat or is_limited or _was_not_sent(outcome)
            if not (failure and left > 0 and may_repeat and rewind(request)):
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome
            wait = min(_retry_after(outcome) + limits.backoff(attempt), left)
            log.warning("%s. Retrying in %.0f s (MLflow at %s).", failure, wait, self._connection.url)
            time.sleep(wait)
            read = min(read, max(left - wait, MIN_TIMEOUT_SECONDS))
        raise AssertionError  # the loop has no end

    def _exchange(
        self, request: requests.PreparedRequest, connect: float, read: float, **kwargs: Any
    ) -> requests.Response:
        read = min(read, seconds_left())
        if read <= 0:
            raise TimeoutError
        with within(read):
            response = super().send(request, timeout=(min(connect, read), read), **kwargs)
            response.encoding = "utf-8"  # as MLflow sends; a header may name an unknown character set
            if not response.ok:
                response.content  # noqa: B018  # also with stream=True: it may say whether to retry
        return response

    def resolve_redirects(self, *args: Any, yield_requests: bool = False, **kwargs: Any) -> Iterator[Any]:
        """Do not parse the address of a redirect that is not followed: it may be malformed."""
        if yield_requests:
            return
        with suppress(ValueError):
            yield from super().resolve_redirects(*args, **kwargs)
            return
        raise requests.RequestException("redirected to an invalid address")


class _Adapter(HTTPAdapter):
    """Sends a request; the response ends at the deadline or at the maximum size."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if pool.ConnectionCls.response_class is not _Response:
            pool.ConnectionCls = type("Connection", (pool.ConnectionCls,), {"response_class": _Response})
        return pool

    def send(self, request: requests.PreparedRequest, stream: bool = False, *args: Any, **kwargs: Any) -> Any:
        response = super().send(request, stream, *args, **kwargs)
        if not (stream and response.ok):
            response.raw.stream = partial(_limited, response.raw.stream)  # type: ignore[method-assign]
        return response


def _limited(stream: Callable[..., Iterator[bytes]], *args: Any, **kwargs: Any) -> Iterator[bytes]:
    size = 0
    for chunk in stream(*args, **kwargs):
        size += len(chunk)
        if size > MAX_RESPONSE_BYTES:
            raise OSError("the response is larger than 64 MB; to download a file, pass stream=True to run()")
        yield chunk


class _Response(HTTPResponse):
    """A response that must be complete at the deadline, however slowly the server sends."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Reader(sock, self.fp.detach()))


class _Reader(io.RawIOBase):
    """Read from a socket until the deadline; a socket's own timeout starts again with each byte."""

    def __init__(self, sock: socket.socket, file: io.RawIOBase) -> None:
        self._socket = sock
        self._timeout = sock.gettimeout()
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = seconds_left()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(min(self._timeout or left, left))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def finding_of(error: BaseException) -> Finding:
    """Return the finding for a missing response, by error types that every urllib3 has."""
    errors = list(chain(error))
    if any(getattr(each, "verify_code", None) in OTHER_HOST for each in errors):
        return findings.CERTIFICATE_FOR_OTHER_HOST
    for error_class, finding in FINDINGS.items():
        if any(isinstance(each, error_class) for each in errors):
            return finding
    tls_errors = "".join(str(each) for each in errors if isinstance(each, ssl.SSLError))
    if NOT_TLS.search(tls_errors):
        return findings.NOT_HTTPS
    if alert := CERTIFICATE_ALERT.search(tls_errors):
        return findings.CLIENT_CERTIFICATE_REJECTED.format(reason=alert[0])
    return findings.UNEXPECTED.format(message=str(error).removesuffix("."))


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may get a response later."""
    permanent = {finding.code for finding in PERMANENT}
    return isinstance(error, TRANSIENT) and finding_of(error).code not in permanent


def is_overloaded(response: requests.Response) -> bool:
    """Return whether MLflow has no connection to its database left, which it reports as a bad request."""
    return response.status_code == requests.codes.bad_request and OVERLOADED in response.text


def _transient_failure(outcome: Outcome) -> str | None:
    """Describe the outcome of a request if another attempt may have a better one."""
    if isinstance(outcome, Exception):
        return str(finding_of(outcome)) if is_transient(outcome) else None
    is_failing = outcome.status_code in RETRIED_STATUS_CODES and FEATURE_DISABLED not in outcome.text
    return f"{outcome.status_code} {clean(outcome.reason)}" if is_failing or is_overloaded(outcome) else None


def _was_not_sent(outcome: Outcome) -> bool:
    not_connected = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    return isinstance(outcome, Exception) and any(isinstance(each, not_connected) for each in chain(outcome))


def _retry_after(outcome: Outcome) -> float:
    """Return how many seconds the server asks to wait; 0 if it does not, or if its header is malformed."""
    value = outcome.headers.get("Retry-After", "") if isinstance(outcome, requests.Response) else ""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return 0
    return seconds if 0 < seconds < float("inf") else 0
