"""Copies of the working tree, and the embedded stacks that run from them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import requests

from mlflow_servers import free_port

ROOT = Path(__file__).resolve().parents[3]
# Long, because other programs may keep every core busy.
MAKE_SECONDS = 1200


@dataclass
class Clone:
    """A copy of the working tree with its stack."""

    folder: Path
    minio: str = ""  # the program; empty to store artifacts on disk
    umask: int = 0o077  # as some users set it

    @cached_property
    def ports(self) -> dict[str, str]:
        """Free ports by variable, chosen at first use, because nothing reserves them."""
        variables = ("AIRFLOW_PORT", "MLFLOW_PORT", "MINIO_PORT", "MINIO_CONSOLE_PORT")
        free: set[str] = set()
        while len(free) < len(variables):
            free.add(str(free_port()))
        return dict(zip(variables, free, strict=True))

    @property
    def airflow_port(self) -> int:
        return int(self.ports["AIRFLOW_PORT"])

    @property
    def mlflow_port(self) -> int:
        return int(self.ports["MLFLOW_PORT"])

    @property
    def minio_port(self) -> int:
        return int(self.ports["MINIO_PORT"])

    @property
    def minio_console_port(self) -> int:
        return int(self.ports["MINIO_CONSOLE_PORT"])

    def start(self, *targets: str, **environment: str | None) -> subprocess.Popen[str]:
        """Start make with these targets, and with the Python that created the environment under test.

        :param environment: more variables; None removes one.
        """
        python = Path(sys.base_prefix) / "bin" / "python3"
        # Without the settings of the tests, e.g. the name of this Airflow.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "AIRFLOW", "MLFLOW_"))}
        variables = {**inherited, "MINIO": self.minio, **environment}
        return subprocess.Popen(
            ["make", f"PYTHON={python}", *targets],
            cwd=self.folder,
            env={name: value for name, value in variables.items() if value is not None},
            umask=self.umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def make(self, *targets: str, expect: int = 0, **environment: str | None) -> str:
        """Run make, and return its output; make itself exits with 2 when a command fails."""
        process = self.start(*targets, **environment)
        output, _ = process.communicate(timeout=MAKE_SECONDS)
        assert process.returncode == expect, output
        return output

    def processes(self) -> list[psutil.Process]:
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("LOCAL_STACK") == str(self.folder):
                    processes.append(process)
        return processes

    def listening(self) -> list[Any]:
        """Return the addresses that the processes listen on: ``ip`` and ``port``."""
        connections: list[Any] = []
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # a task may end while this looks
                connections += process.net_connections("inet")
        return [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]

    def mlflow_processes(self) -> tuple[psutil.Process, psutil.Process]:
        """Return the parent, which the supervisor started, and its child, which serves."""
        pid = next(line.split()[2] for line in self.make("status").splitlines() if " mlflow " in line)
        parent = psutil.Process(int(pid))
        (child,) = parent.children()
        return parent, child

    def mlflow(self, path: str, **body: object) -> dict:
        url = f"http://127.0.0.1:{self.mlflow_port}/api/2.0/mlflow/{path}"
        response = requests.post(url, json=body, timeout=30)
        response.raise_for_status()
        return response.json()

    def run_ids(self) -> set[str]:
        experiments = self.mlflow("experiments/search", max_results=100)["experiments"]
        ids = [experiment["experiment_id"] for experiment in experiments]
        runs = self.mlflow("runs/search", experiment_ids=ids, max_results=1000)["runs"]
        return {run["info"]["run_id"] for run in runs}

    def assert_nothing_is_left(self) -> None:
        assert self.processes() == []
        for port in self.ports.values():
            with socket.create_server(("127.0.0.1", int(port))):
                pass


@contextmanager
def run_clone(folder: Path, minio: str = "") -> Iterator[Clone]:
    """Copy the working tree into a folder; afterwards stop its stack and delete the folder.

    :param minio: the program that stores the artifacts; empty for the disk.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in listed.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    # A background job of a shell ignores Ctrl-C, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    clone = Clone(folder, minio)
    try:
        yield clone
    finally:
        clone.start("down").communicate()
        for process in clone.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
