"""Forward a port of this machine to an address elsewhere."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer


@contextmanager
def relay(address: tuple[str, int], port: int) -> Iterator[None]:
    """Forward a port on loopback to an address, for a block; open connections outlive the block."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with ExitStack() as open_sockets, suppress(OSError):
                there = open_sockets.enter_context(socket.create_connection(address, timeout=30))
                there.settimeout(None)
                back = threading.Thread(target=_pass_on, args=(there, self.request), daemon=True)
                back.start()
                _pass_on(self.request, there)
                back.join()

    class Server(ThreadingTCPServer):
        allow_reuse_address = True  # also right after another relay
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

    with Server(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Copy from one socket to the other, including the end of the stream."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
