"""An MLflow server that a test can stop, suspend and restart; what Airflow does with a failed task."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from mlflow_provider.listeners import failures
from mlflow_servers import MLflowServer, free_port, run_mlflow_server

if TYPE_CHECKING:
    from tries import Try


class Server:
    """An MLflow server with the same address and data after a restart.

    :param folder: a new folder for its data.
    :param options: additional options of ``mlflow server``.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir()
        self.folder = folder
        self._options = options
        self._port = free_port()
        self._running = ExitStack()
        self._process: MLflowServer | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the server if it is down, and wait until it responds."""
        if not self._process:
            server = run_mlflow_server(self.folder, None, *self._options, port=self._port)
            self._process = self._running.enter_context(server)

    def kill(self) -> None:
        """Kill the server as `kill -9` does."""
        self._running.close()
        self._process = None

    @contextmanager
    def down(self) -> Iterator[None]:
        """Kill it for a block."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Suspend the server for a block: it accepts connections but does not respond."""
        assert self._process
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)


@contextmanager
def reported_by_airflow() -> Iterator[None]:
    """Call the listener of failed tasks if a block fails; it logs the fix."""
    try:
        yield
    except Exception as error:
        failures.on_task_instance_failed(SimpleNamespace(id=None, state="failed"), error)
        raise


def clear(a_try: Try) -> None:
    """Clear a task instance that has ended, like the button *Clear*."""
    a_try.try_number += 1
    a_try.max_tries += 1
    a_try.clear_number += 1
