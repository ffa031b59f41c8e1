"""Fixtures for tests of DAGs: an Airflow home, and a real MLflow server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from mlflow import MlflowClient

CONNECTION = "AIRFLOW_CONN_MLFLOW_DEFAULT"
START_SECONDS = 300  # on a busy machine

if "AIRFLOW_HOME" not in os.environ:  # Airflow would create ~/airflow when it is imported
    HOME = tempfile.TemporaryDirectory(prefix="airflow-")
    os.environ["AIRFLOW_HOME"] = HOME.name


@pytest.fixture
def mlflow(_mlflow_connection: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A real, temporary MLflow: ``mlflow_default`` leads to it, and this is its client."""
    from mlflow_provider.hooks.client import MLflowClientHook

    monkeypatch.setenv(CONNECTION, _mlflow_connection)
    return MLflowClientHook().client


@pytest.fixture(scope="session")
def _mlflow_connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An Airflow connection as JSON: to a server started here, or AIRFLOW_CONN_MLFLOW_DEFAULT if it works.

    ``make test`` names the program in MLFLOW_SERVER; otherwise it is ``mlflow`` on the PATH. Without a server
    the test is skipped, or fails if the variable CI is set.
    """
    program = os.environ.get("MLFLOW_SERVER") or shutil.which("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [program, "server", f"--port={port}", "--workers=1", "--backend-store-uri=sqlite:///mlflow.db"]
    server = program and subprocess.Popen(
        [*command, "--artifacts-destination=artifacts"],
        cwd=folder,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        if server and _answers(server, url):
            yield json.dumps({"conn_type": "mlflow", "host": url})
        elif CONNECTION in os.environ and _is_reachable():
            yield os.environ[CONNECTION]
        else:
            reason = f"no MLflow server: {program} does not start one, and {CONNECTION} leads to none"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    finally:
        if server:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(server: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the API answers. With mlflow-skinny the server ends at once, because it has none."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urlopen(f"{url}/api/2.0/mlflow/experiments/search?max_results=1", timeout=10):
            return True
        time.sleep(0.2)
    return False


def _is_reachable() -> bool:
    from mlflow_provider.hooks.client import MLflowClientHook

    return MLflowClientHook().test_connection()[0]
