"""HTTP servers that answer as a test says."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Base of the handlers, which logs nothing."""

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def run_http_server(
    handler: type[Handler], port: int = 0, context: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Run a server for a block, and yield its address.

    :param port: its port; 0 for a free one.
    :param context: for HTTPS.
    """
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
