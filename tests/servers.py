"""Real MLflow servers, and Airflow connections that lead to them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from local.settings import MLFLOW_VENV

# What a URL or an ini file could trip over. ASCII, because MLflow's artifact routes answer 401 to anything else.
ADMIN_PASSWORD = "Pass: 100% geheim/@#"
PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class MLflowServer:
    """A running MLflow server.

    :param url: where it answers. It answers 403 to any other name of the same place.
    :param folder: holds its database, artifacts and log.
    """

    url: str
    folder: Path
    login: str | None = None
    password: str | None = None

    @property
    def connection(self) -> dict[str, str | None]:
        """The fields of an Airflow connection to it."""
        return {"host": self.url, "login": self.login, "password": self.password}

    @property
    def unknown_url(self) -> str:
        """A name of the same place that the server was not told, so that it answers 403."""
        return self.url.replace("127.0.0.1", "localhost")

    def answers(self) -> bool:
        """Ask the API; /health would answer before it does."""
        auth = (self.login.encode(), self.password.encode()) if self.login and self.password else None
        try:
            response = requests.post(
                f"{self.url}/api/2.0/mlflow/experiments/search", json={"max_results": 1}, auth=auth, timeout=10
            )
        except (requests.ConnectionError, requests.Timeout):
            return False
        return response.ok


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def run_mlflow_server(folder: Path, *options: str, password: str | None = None) -> Iterator[MLflowServer]:
    """Run a server, as lean as MLflow allows, for a block.

    :param folder: an empty folder for its database, artifacts and log.
    :param options: more options of ``mlflow server``.
    :param password: switches login on, and is the password of the user ``admin``.
    """
    executable = MLFLOW_VENV / "bin" / "mlflow"
    if not executable.exists():
        pytest.fail(f"There is no {executable}; `make test` installs it.", pytrace=False)
    address = f"127.0.0.1:{free_port()}"
    server = MLflowServer(f"http://{address}", folder, "admin" if password else None, password)
    host, port = address.split(":")
    command = [
        *(executable, "server", "--host", host, "--port", port, "--allowed-hosts", address, "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", folder / "artifacts"),
        *(["--app-name", "basic-auth"] if password else []),
        *options,
    ]
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for tests",
        "MLFLOW_AUTH_ADMIN_PASSWORD": password or "",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(server, process)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(server: MLflowServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not server.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join((server.folder / "log").read_text().splitlines()[-30:])
            pytest.fail(f"The MLflow server at {server.url} did not start:\n{tail}", pytrace=False)
        time.sleep(0.2)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """A server with a SQLite backend that passes artifacts on, as the project's own does."""
    with run_mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_auth_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """The same with MLflow's basic-auth app: it wants a login."""
    with run_mlflow_server(tmp_path_factory.mktemp("mlflow-auth"), password=ADMIN_PASSWORD) as server:
        yield server


@pytest.fixture
def airflow_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A function that makes an Airflow connection from its ID and fields, and returns the ID."""

    def create(conn_id: str = "mlflow_default", **fields: Any) -> str:
        value = json.dumps({"conn_type": "mlflow", **fields})
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", value)
        return conn_id

    return create
