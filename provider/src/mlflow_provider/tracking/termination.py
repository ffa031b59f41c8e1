"""React to SIGTERM immediately, even in the middle of a compiled library."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Watch:
    """A block that watches for SIGTERM.

    :param writer: the socket on which Python announces signals.
    :param handler: the handler of SIGTERM when the block began.
    """

    writer: socket.socket
    handler: Any


_watches: list[_Watch] = []  # the innermost last


def _detach_after_fork() -> None:
    """Detach a forked child from the task's signal handling, and let SIGTERM end it.

    Airflow's handler does nothing in a fork, and a ``multiprocessing.Pool`` may then never end. A handler
    that the block has set stays.
    """
    if not _watches:
        return
    signal.set_wakeup_fd(-1)
    for watch in _watches:
        watch.writer.close()
    if signal.getsignal(signal.SIGTERM) == _watches[0].handler:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_detach_after_fork)


@contextmanager
def on_termination(callback: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Call a function when the process gets SIGTERM during a block.

    Python calls signal handlers between two lines of the main thread, which a model being fitted in
    compiled code may not reach before the process is killed. But the byte that announces the signal
    arrives immediately, and a second thread waits for it here. Existing handlers stay.

    Outside the main thread, where Python does not allow signals to be watched, nothing is called.

    :param callback: called in the second thread, once.
    :return: a function that returns whether the process got SIGTERM.

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
            if signals[0] == signal.SIGTERM and not terminated.is_set():
                terminated.set()
                callback()

    reader, writer = socket.socketpair()
    with reader:
        writer.setblocking(False)
        previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=wait_for_signals, name="mlflow-termination", daemon=True)
        thread.start()
        watch = _Watch(writer, signal.getsignal(signal.SIGTERM))
        _watches.append(watch)
        try:
            yield terminated.is_set
        finally:
            _watches.remove(watch)
            signal.set_wakeup_fd(previous_fd)
            writer.close()
            thread.join()  # ends at once: the writer is closed, and no forked process has a copy
