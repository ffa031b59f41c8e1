"""kubectl, for any cluster with a kubeconfig."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import yaml

from dev.waiting import wait_until


@dataclass
class Kubectl:
    """A cluster, as its administrator sees it.

    :param kubeconfig: path of the file that leads to the cluster.
    :param program: path of kubectl.
    """

    kubeconfig: Path
    program: Path | str = "kubectl"

    def __call__(self, *arguments: str | Path, check: bool = True, stdin: str | None = None) -> str:
        """Run ``kubectl`` and return its standard output; without ``check``, also its errors.

        :raises AssertionError: it failed, unless ``check`` is False.
        """
        process = subprocess.run(
            self._command(*arguments),
            input=stdin,
            stdin=DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or process.returncode == 0, (
            f"kubectl {' '.join(map(str, arguments))}\n{process.stderr}"
        )
        return process.stdout if check else process.stdout + process.stderr

    def _command(self, *arguments: str | Path) -> list[str | Path]:
        return [self.program, f"--kubeconfig={self.kubeconfig}", *arguments]

    def get(self, *what: str) -> Any:
        """Return objects as the API server has them."""
        return json.loads(self("get", "--output=json", *what))

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Create or change objects."""
        self("apply", "--filename=-", stdin=yaml.safe_dump_all(manifests))

    @contextmanager
    def forward(self, namespace: str, service: str, port: int) -> Iterator[None]:
        """Forward a port of this machine to a Service of one port, for a block."""
        spec = self.get("service", f"--namespace={namespace}", service)["spec"]
        with self.forward_to_pod(namespace, f"service/{service}", port, spec["ports"][0]["port"]):
            yield

    @contextmanager
    def forward_to_pod(self, namespace: str, owner: str, port: int, pod_port: int) -> Iterator[None]:
        """Forward a port of this machine to one of a Service's or Deployment's pods, for a block.

        kubectl ends when that pod is replaced, so it is started again.
        """
        ports = f"{port}:{pod_port}"
        command = self._command("port-forward", f"--namespace={namespace}", owner, ports)
        loop = ["sh", "-c", 'while :; do "$@"; sleep 0.2; done', "-", *command]
        process = subprocess.Popen(loop, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)
        try:
            wait_until(f"port {port} leads to {owner}", lambda: _listens(port))
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
