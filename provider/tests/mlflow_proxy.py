"""A proxy that disturbs and records requests to a real MLflow server; a pytest plugin."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer

API = "/api/2.0/mlflow/"


@dataclass
class Proxy:
    """Forward requests to a server.

    :param url: its address.
    :param requests: the requests so far, e.g. ``POST runs/create``.
    :param callers: the ports of the clients.
    :param lost: paths of requests that reach the server, but whose response is lost; once each.
    :param late: the same, and the request reaches the server some seconds later; once each.
    :param forbidden: paths with the response 403.
    :param token: the required bearer token; requests without it get 401.
    :param changed: ends of paths whose response gets a different first byte.
    :param hangs: whether to stop responding.
    :param delay: seconds before each response.
    :param sizes: sizes of the responses in bytes.
    :param late_is_done: whether a late request has reached the server.
    """

    url: str
    requests: list[str] = field(default_factory=list)
    callers: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    token: str = ""
    changed: list[str] = field(default_factory=list)
    hangs: bool = False
    delay: float = 0
    sizes: list[int] = field(default_factory=list)
    late_is_done: threading.Event = field(default_factory=threading.Event)

    def refusal(self, path: str, authorization: str | None) -> tuple[int, bytes] | None:
        """Return status and body for a request that is not forwarded."""
        if self.token and authorization != f"Bearer {self.token}":
            return 401, b"You are not authenticated."
        if path in self.forbidden:
            return 403, b'{"error_code": "PERMISSION_DENIED", "message": "Not yours."}'
        return None


@contextmanager
def run_proxy(server: MLflowServer, port: int = 0) -> Iterator[Proxy]:
    """Run a proxy for a block.

    :param port: its port; 0 for a free one.
    """
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.split("?")[0].removeprefix(API)
            proxy.requests.append(f"{self.command} {path}")
            proxy.callers.append(self.client_address[1])
            if proxy.hangs:
                ended.wait()
            ended.wait(proxy.delay)
            if refusal := proxy.refusal(path, self.headers.get("Authorization")):
                self._answer(*refusal)
                return
            if path in proxy.late:
                proxy.late.remove(path)
                threading.Timer(3, self._ask_late, (body,)).start()
                self.close_connection = True
                return
            answer = self._ask(body)
            if path in proxy.lost:
                proxy.lost.remove(path)
                self.close_connection = True
                return
            is_changed = self.command == "GET" and path.endswith(tuple(proxy.changed))
            body = bytes([answer.content[0] ^ 1]) + answer.content[1:] if is_changed else answer.content
            self._answer(answer.status_code, body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = pass_on  # noqa: N815

        def _ask(self, body: bytes) -> requests.Response:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            return requests.request(self.command, server.url + self.path, data=body, headers=headers)

        def _ask_late(self, body: bytes) -> None:
            self._ask(body)
            proxy.late_is_done.set()

        def _answer(self, status: int, body: bytes) -> None:
            proxy.sizes.append(len(body))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as listener:
        listener.daemon_threads = True
        proxy = Proxy(f"http://127.0.0.1:{listener.server_port}")
        threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        yield proxy
        ended.set()
        listener.shutdown()


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
