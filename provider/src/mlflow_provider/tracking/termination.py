"""Notices at once that a process was asked to end, also while it is deep in a compiled library."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Where the signals of this process are announced, during a block; the innermost last.
_announced: list[socket.socket] = []


def _part_from_task() -> None:
    """Part a forked process from the task: its signals are not the task's, and SIGTERM ends it.

    Airflow's handler does nothing in a fork, and a ``multiprocessing.Pool`` may then never come to its end.
    """
    if not _announced:
        return
    signal.set_wakeup_fd(-1)
    for writer in _announced:
        writer.close()
    handler = signal.getsignal(signal.SIGTERM)
    if str(getattr(handler, "__module__", "")).startswith("airflow."):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_part_from_task)


@contextmanager
def on_termination(callback: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Call a function when the process gets SIGTERM during a block.

    Python calls signal handlers between two lines of the main thread, which a model being fitted in
    compiled code may not reach before the process is killed. But the byte that announces the signal
    arrives at once, and here a second thread waits for it. Handlers that are set stay set.

    Outside of the main thread, where Python does not allow signals to be watched, nothing is called.

    :param callback: called in the second thread, once.
    :return: a function that tells whether the process got SIGTERM.

    .. seealso:: https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
    """
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated.is_set
        return

    def watch() -> None:
        while signals := reader.recv(1):
            if signals[0] == signal.SIGTERM and not terminated.is_set():
                terminated.set()
                callback()

    reader, writer = socket.socketpair()
    with reader:
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        watcher = threading.Thread(target=watch, name="mlflow-termination", daemon=True)
        watcher.start()
        _announced.append(writer)
        try:
            yield terminated.is_set
        finally:
            _announced.remove(writer)
            signal.set_wakeup_fd(before)
            writer.close()
            watcher.join()  # which has noticed, as no forked process has kept a copy
