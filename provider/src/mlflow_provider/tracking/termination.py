"""React to SIGTERM immediately, even in the middle of a compiled library."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], object]

# Of each block: the socket on which Python announces signals, and the handler of SIGTERM. The innermost last.
_watches: list[tuple[socket.socket, Handler]] = []


def _detach_after_fork() -> None:
    """Detach a forked child from the task's signal handling, and let SIGTERM end it.

    Airflow's handler does nothing in a fork, and a ``multiprocessing.Pool`` may then never end. A handler
    that the block has set stays.
    """
    if not _watches:
        return
    signal.set_wakeup_fd(-1)
    for writer, _ in _watches:
        writer.close()
    if signal.getsignal(signal.SIGTERM) in [handler for _, handler in _watches]:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_detach_after_fork)


@contextmanager
def on_termination(callback: Callable[[], None]) -> Iterator[Callable[[], bool | None]]:
    """Call a function when the process gets SIGTERM during a block.

    Python calls signal handlers between two lines of the main thread, which a model being fitted in
    compiled code may not reach before the process is killed. But the byte that announces the signal
    arrives immediately, and a second thread waits for it here. The existing handler is still called.

    Outside the main thread, where Python does not allow signals to be watched, nothing is called.

    :param callback: called in the second thread.
    :return: a function that returns whether the process got SIGTERM; None if that is unknown, because the
        block has replaced the handler, as event loops do.

    .. seealso:: https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
    """
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated.is_set
        return

    def wait_for_signals() -> None:
        while signals := reader.recv(1):
            if previous_fd != -1:  # of an outer block
                with suppress(OSError):
                    os.write(previous_fd, signals)
            if signals[0] == signal.SIGTERM:
                terminated.set()
                callback()

    def handle(number: int, frame: FrameType | None) -> None:
        terminated.set()  # uvloop takes the byte, but calls the handler
        previous_handler(number, frame)

    def was_terminated() -> bool | None:
        is_replaced = signal.getsignal(signal.SIGTERM) != handler
        return terminated.is_set() or (None if is_replaced else False)

    handler: Any = signal.getsignal(signal.SIGTERM)
    previous_handler = handler
    if callable(previous_handler):
        handler = handle
        signal.signal(signal.SIGTERM, handle)
    reader, writer = socket.socketpair()
    with reader:
        writer.setblocking(False)
        previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=wait_for_signals, name="mlflow-termination", daemon=True)
        thread.start()
        _watches.append((writer, handler))
        try:
            yield was_terminated
        finally:
            _watches.pop()
            if signal.getsignal(signal.SIGTERM) == handle:
                signal.signal(signal.SIGTERM, previous_handler)
            signal.set_wakeup_fd(previous_fd)
            writer.close()
            thread.join()  # ends at once: the writer is closed, and no forked process has a copy
