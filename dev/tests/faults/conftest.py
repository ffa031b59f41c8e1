"""Failures that take time, for `make -C dev faults` only: MLflow stops, hangs, and starts again.

The tasks are tries as ``tries.Try`` makes them, at real servers. Those of a scheduler are in
dev/tests/stack/faults.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from dev.tests.helpers.outages import Server
from mlflow_provider.hooks.client import MLflowClientHook
from tries import Try

if TYPE_CHECKING:
    from mlflow.entities import Run


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mortal") / "mlflow")
    yield server
    server.kill()


@pytest.fixture
def server(_server: Server) -> Server:
    """A server that is up, and that a test may kill."""
    _server.start()
    return _server


@pytest.fixture
def mlflow_default(request: pytest.FixtureRequest, airflow_connection: Callable[..., str]) -> str:
    """A connection to the server that may be killed, where a test asks for one; else to that of all tests."""
    mortal = "server" in request.fixturenames
    return airflow_connection(host=request.getfixturevalue("server" if mortal else "mlflow_server").url)


@pytest.fixture
def experiment() -> str:
    """The name of an experiment that is nowhere on the server."""
    return f"housing-{uuid.uuid4().hex}"


@pytest.fixture
def a_try(experiment: str, mlflow_default: str) -> Try:
    """The first try of a task instance of a new DAG run."""
    return Try(f"manual__{experiment}")


@pytest.fixture
def hook(mlflow_default: str) -> MLflowClientHook:
    return MLflowClientHook()


@pytest.fixture
def runs(hook: MLflowClientHook, experiment: str) -> Callable[[], list[Run]]:
    """A function that returns the runs of the test's experiment, oldest first."""

    def search() -> list[Run]:
        experiment_id = hook.get_or_create_experiment(experiment)
        return hook.client.search_runs([experiment_id], order_by=["attributes.start_time ASC"])

    return search


@pytest.fixture
def later() -> Iterator[Callable[[float, Callable[[], None]], None]]:
    """A function that calls another one some seconds later, beside the test."""
    threads: list[threading.Thread] = []

    def start(seconds: float, what: Callable[[], None]) -> None:
        def wait() -> None:
            time.sleep(seconds)
            what()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
