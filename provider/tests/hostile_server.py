"""A server that sends any bytes as its response; a pytest plugin."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest


class HostileServer(ThreadingTCPServer):
    """Sends the same response to each request.

    :param response: its parts. Without a ``Content-Length`` the connection is closed after them.
    """

    daemon_threads = True
    response: Iterable[bytes] = ()

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, body: bytes, *headers: bytes, status: bytes = b"200 OK") -> None:
        """Respond with a body."""
        lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
        self.response = [b"\r\n".join(lines)]


class _Handler(StreamRequestHandler):
    server: HostileServer

    def handle(self) -> None:
        while self.rfile.readline():
            length = 0
            while header := self.rfile.readline().strip().lower():
                if header.startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            self.rfile.read(length)
            is_complete = False
            with suppress(OSError):  # the client has hung up
                for part in self.server.response:
                    is_complete = is_complete or b"\r\nContent-Length:" in part
                    self.wfile.write(part)
            if not is_complete:
                return


@pytest.fixture(scope="module")
def hostile_server() -> Iterator[HostileServer]:
    """A hostile server for the tests of a module; each sets its response."""
    with HostileServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()
