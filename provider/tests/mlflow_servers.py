"""Real and fake MLflow servers, and Airflow connections to them; a pytest plugin."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import random
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
import requests
from uv import find_uv_bin

from http_servers import Handler, run_http_server

# Difficult for a URL and an ini file, but ASCII, because MLflow's artifact routes reject other characters.
ADMIN_PASSWORD = "Pass: 100% geheim/@#"
# MLflow's default, with a cache for logins, because checking one takes a third of a second.
AUTH_CONFIG = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///basic_auth.db
admin_username = admin
auth_cache_ttl_seconds = 3600
"""
# The server has its own environment, because its dependencies conflict with Airflow's.
SERVER_PACKAGE = "mlflow[auth]>=3.17,<3.18"
# uv may have to install it first, on a busy machine.
PATIENCE_SECONDS = 400


@dataclass(frozen=True)
class MLflowServer:
    """A running MLflow server.

    :param url: its address. It responds with 403 to any other host name.
    :param folder: contains its database, artifacts and log.
    :param pid: its process, the leader of a process group.
    """

    url: str
    folder: Path
    pid: int
    login: str | None = None
    password: str | None = None

    @property
    def connection(self) -> dict[str, str | None]:
        """The fields of an Airflow connection to it."""
        return {"host": self.url, "login": self.login, "password": self.password}

    @property
    def unknown_url(self) -> str:
        """An address with a host name that the server does not accept, so that it responds with 403."""
        return self.url.replace("127.0.0.1", "localhost")

    def answers(self) -> bool:
        """Return whether the API responds; /health responds too early."""
        auth = (self.login.encode(), self.password.encode()) if self.login and self.password else None
        try:
            response = requests.post(
                f"{self.url}/api/2.0/mlflow/experiments/search",
                json={"max_results": 1},
                auth=auth,
                timeout=10,
            )
        except (requests.ConnectionError, requests.Timeout):
            return False
        return response.ok or response.status_code == requests.codes.unauthorized


def free_port() -> int:
    """Return a free port outside the system's ephemeral range, so that it stays free for a moment."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def _mlflow() -> list[str]:
    """Return the command ``mlflow``: the one in ``MLFLOW_SERVER``, otherwise one installed by uv.

    ``MLFLOW_SERVER_PACKAGE`` names another package for uv to install.
    """
    package = os.environ.get("MLFLOW_SERVER_PACKAGE")
    if not package and (given := os.environ.get("MLFLOW_SERVER")):
        return [given]
    uv = [find_uv_bin(), "tool", "run", "--quiet", "--python", sys.executable]
    return [*uv, "--from", package or SERVER_PACKAGE, "mlflow"]


@contextmanager
def run_mlflow_server(
    folder: Path, password: str | None = None, *options: str, port: int | None = None
) -> Iterator[MLflowServer]:
    """Run a lean server for a block.

    :param folder: for its database, artifacts and log; empty, or that of an earlier server to continue.
    :param password: password of the user ``admin``; None for no login.
    :param options: additional options of ``mlflow server``.
    :param port: its port; a free one by default.
    """
    server = _start(folder, password, *options, port=port)
    try:
        yield server
    finally:
        _stop(server)


def _start(folder: Path, password: str | None, *options: str, port: int | None = None) -> MLflowServer:
    port = port or free_port()
    address = f"127.0.0.1:{port}"
    command = [
        *_mlflow(),
        "server",
        "--host=127.0.0.1",
        f"--port={port}",
        f"--allowed-hosts={address}",
        "--workers=1",
        f"--backend-store-uri=sqlite:///{folder / 'mlflow.db'}",
        f"--artifacts-destination={folder / 'artifacts'}",
        *(["--app-name=basic-auth"] if password else []),
        *options,
    ]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if password:
        (folder / "basic_auth.ini").write_text(AUTH_CONFIG)
        environment |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "for tests",
        }
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    login = "admin" if password else None
    server = MLflowServer(f"http://{address}", folder, process.pid, login, password)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not server.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            _stop(server)
            tail = "\n".join((folder / "log").read_text().splitlines()[-30:])
            pytest.fail(f"The MLflow server at {server.url} did not start:\n{tail}", pytrace=False)
        time.sleep(0.2)
    return server


def _stop(server: MLflowServer) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    with suppress(ChildProcessError):  # another process has started it
        os.waitpid(server.pid, 0)


@contextmanager
def run_replicated_server(like: MLflowServer, folder: Path, lag: float) -> Iterator[MLflowServer]:
    """Run a server that reads from a replica of its database for a block.

    :param like: another server, whose database it copies at the start.
    :param folder: for its database, artifacts and log.
    :param lag: how many seconds the replica is behind.
    """
    primary, replica = folder / "mlflow.db", folder / "replica.db"
    for copy in (primary, replica):
        with _database(like.folder / "mlflow.db") as source, _database(copy) as target:
            source.backup(target)
    # A process: SQLite does not survive that a test forks while a thread copies.
    spawn = multiprocessing.get_context("spawn")
    ended = spawn.Event()
    replication = spawn.Process(target=_replicate, args=(primary, replica, lag, ended), daemon=True)
    option = f"--read-replica-backend-store-uri=sqlite:///{replica}"
    with run_mlflow_server(folder, None, option) as server:
        replication.start()
        try:
            yield server
        finally:
            ended.set()
            replication.join()
        assert replication.exitcode == 0


def _replicate(primary: Path, replica: Path, lag: float, ended: Event) -> None:
    states: deque[tuple[float, sqlite3.Connection]] = deque()
    with _database(primary) as source, _database(replica) as target:
        while not ended.wait(0.2):
            state = sqlite3.connect(":memory:")
            source.backup(state)
            states.append((time.monotonic(), state))
            while states and states[0][0] < time.monotonic() - lag:
                states.popleft()[1].backup(target)


@contextmanager
def _database(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, timeout=60)) as connection:
        yield connection


@contextmanager
def _shared_mlflow_server(
    factory: pytest.TempPathFactory, name: str, password: str | None = None
) -> Iterator[MLflowServer]:
    """Run one server for all workers of pytest-xdist: the first to need it starts it, the last stops it."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / name
    folder.mkdir(exist_ok=True)
    users = folder / "users"  # one line per user, with the server's address and process
    with _locked(folder / "lock"):
        lines = users.read_text().splitlines() if users.exists() else []
        if lines:
            url, pid = lines[0].split()
            server = MLflowServer(url, folder, int(pid), "admin" if password else None, password)
        else:
            server = _start(folder, password)
        users.write_text("\n".join([*lines, f"{server.url} {server.pid}"]))
    yield server
    with _locked(folder / "lock"):
        lines = users.read_text().splitlines()[1:]
        users.write_text("\n".join(lines))
        if not lines:
            _stop(server)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """A server with a SQLite backend that proxies artifacts, like the project's own."""
    with _shared_mlflow_server(tmp_path_factory, "mlflow") as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_auth_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """The same with MLflow's basic-auth app, which requires a login."""
    with _shared_mlflow_server(tmp_path_factory, "mlflow-auth", ADMIN_PASSWORD) as server:
        yield server


@pytest.fixture
def airflow_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A function that creates an Airflow connection and returns its ID."""

    def create(conn_id: str = "mlflow_default", **fields: Any) -> str:
        value = json.dumps({"conn_type": "mlflow", **fields})
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", value)
        return conn_id

    return create


@dataclass(frozen=True)
class Answer:
    """A response of a false server. Status 0: none, the connection is closed."""

    status: int = 200
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FalseServer:
    """A server for responses that MLflow cannot be made to give; it records the headers of each request."""

    url: str
    requests: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def _false_server(answers: tuple[Answer, ...], certificate: Path | None) -> Iterator[FalseServer]:
    class FalseHandler(Handler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.requests.append(dict(self.headers))
            # The last one is repeated.
            answer = answers[min(len(server.requests), len(answers)) - 1]
            self.close_connection = True
            if not answer.status:
                return
            self.send_response_only(answer.status)  # without a Date, which an answer may have
            body = answer.body.encode()
            for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with run_http_server(FalseHandler, context=context) as url:
        server = FalseServer(url)
        yield server


@pytest.fixture
def false_server() -> Iterator[Callable[..., FalseServer]]:
    """A function that starts a server which returns these responses in turn."""
    with ExitStack() as servers:

        def start(*answers: Answer, certificate: Path | None = None) -> FalseServer:
            return servers.enter_context(_false_server(answers, certificate))

        yield start
