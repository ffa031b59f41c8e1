"""A proxy that disturbs and records requests to a real MLflow server; a pytest plugin."""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from http_servers import Handler, run_http_server

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer

API = "/api/2.0/mlflow/"
NOT_YOURS = '{"error_code": "PERMISSION_DENIED", "message": "Not yours."}'
# Of nginx, as an ingress in front of MLflow sends it.
GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


@dataclass
class Fault:
    """Requests that a proxy does not forward, or whose response gets lost.

    :param request: part of the request, e.g. ``POST runs/create`` or ``logged-models``; empty for all.
    :param status: of the response; 0 for none, the connection is closed.
    :param body: of the response, instead of the server's.
    :param headers: of the response, e.g. ``{"Retry-After": "1"}``.
    :param times: for how many requests.
    :param seconds: for how long, from the first of these requests on.
    :param above: only for requests beyond this number within a second: a rate limit.
    :param arrives: seconds until the request reaches the server nevertheless; None for never.
    """

    request: str = ""
    status: int = 0
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    times: float = math.inf
    seconds: float = math.inf
    above: int = 0
    arrives: float | None = None
    began: float = 0
    passed: deque[float] = field(default_factory=deque)

    def meets(self, request: str, now: float) -> bool:
        """Return whether this request meets the fault, and count it."""
        if self.request not in request or not self.times:
            return False
        while self.passed and self.passed[0] < now - 1:
            self.passed.popleft()
        if len(self.passed) < self.above:
            self.passed.append(now)
            return False
        self.began = self.began or now
        if now - self.began >= self.seconds:
            return False
        self.times -= 1
        return True


@dataclass(frozen=True)
class Received:
    """A request that a proxy has received."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass
class Proxy:
    """Forward requests to a server.

    :param url: its address.
    :param requests: the requests so far, e.g. ``POST runs/create``.
    :param callers: the ports of the clients.
    :param faults: what goes wrong; the first that a request meets.
    :param token: the required bearer token; requests without it get 401.
    :param accepts: whether the login of a request is right, in addition.
    :param changed: ends of paths whose response gets a different first byte.
    :param hangs: whether to stop responding.
    :param delay: seconds before each response.
    :param sizes: sizes of the responses in bytes.
    """

    url: str
    requests: list[str] = field(default_factory=list)
    callers: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    token: str = ""
    accepts: Callable[[Received], bool] = bool
    changed: list[str] = field(default_factory=list)
    hangs: bool = False
    delay: float = 0
    sizes: list[int] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_of(self, request: str, received: Received) -> Fault | None:
        """Return the fault that a request meets."""
        has_token = not self.token or received.headers["Authorization"] == f"Bearer {self.token}"
        if not (has_token and self.accepts(received)):
            return Fault(status=401, body="You are not authenticated.")
        with self._lock:
            now = time.monotonic()
            return next((fault for fault in self.faults if fault.meets(request, now)), None)

    def content_of(self, request: str, content: bytes) -> bytes:
        """Return the content of a response, which the proxy may change."""
        is_changed = request.startswith("GET ") and request.endswith(tuple(self.changed))
        return bytes([content[0] ^ 1]) + content[1:] if is_changed else content


def _context(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    context.load_cert_chain(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def run_proxy(server: MLflowServer, port: int = 0, certificate: Path | None = None) -> Iterator[Proxy]:
    """Run a proxy for a block.

    :param port: its port; 0 for a free one.
    :param certificate: its certificate, with which clients must also identify themselves; None for HTTP.
    """
    ended = threading.Event()

    class ProxyHandler(Handler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.split("?")[0].removeprefix(API)
            request = f"{self.command} {path}"
            proxy.requests.append(request)
            proxy.callers.append(self.client_address[1])
            ended.wait(None if proxy.hangs else proxy.delay)
            if fault := proxy.fault_of(request, Received(self.command, self.path, self.headers, body)):
                if fault.arrives:
                    threading.Timer(fault.arrives, self._forward, (body,)).start()
                elif fault.arrives == 0:
                    self._forward(body)
                self._answer(fault.status, fault.body.encode(), fault.headers)
                return
            answer = self._forward(body)
            self._answer(answer.status_code, proxy.content_of(request, answer.content))

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_request  # noqa: N815

        def _forward(self, body: bytes) -> requests.Response:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            return requests.request(self.command, server.url + self.path, data=body, headers=headers)

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            if not status:
                self.close_connection = True
                return
            proxy.sizes.append(len(body))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with run_http_server(ProxyHandler, port, _context(certificate) if certificate else None) as url:
        proxy = Proxy(url)
        yield proxy
        ended.set()


@pytest.fixture
def mlflow_proxy(mlflow_server: MLflowServer, airflow_connection: Callable[..., str]) -> Iterator[Proxy]:
    """A proxy; the connection ``mlflow_default`` points to it."""
    with run_proxy(mlflow_server) as proxy:
        airflow_connection("mlflow_default", host=proxy.url)
        yield proxy


def wait_until(what: str, look: Callable[[], bool], seconds: float = 60, pause: float = 0.1) -> None:
    """Poll until a condition is true."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            pytest.fail(f"not true within {seconds:g} s: {what}", pytrace=False)
        time.sleep(pause)
