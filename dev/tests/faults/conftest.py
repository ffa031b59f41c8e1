"""Failures that take time, for `make -C dev faults` only: MLflow stops, hangs, and starts again.

The tasks are tries as ``tries.Try`` makes them, with real servers. dev/tests/stack/faults has a scheduler.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from dev.tests.helpers.outages import Server
from mlflow_provider import task_run
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
    """A running server that a test may kill."""
    _server.start()
    return _server


@pytest.fixture
def mlflow_default(request: pytest.FixtureRequest, airflow_connection: Callable[..., str]) -> str:
    """A connection to the server that may be killed if a test uses it, otherwise to the shared server."""
    name = "server" if "server" in request.fixturenames else "mlflow_server"
    return airflow_connection(host=request.getfixturevalue(name).url)


@pytest.fixture
def experiment() -> str:
    """The name of an experiment that does not exist yet."""
    return f"housing-{uuid.uuid4().hex}"


@pytest.fixture
def a_try(experiment: str, mlflow_default: str) -> Try:
    """The first try of a task instance of a new DAG run."""
    return Try(f"manual__{experiment}")


@pytest.fixture
def train(a_try: Try, experiment: str) -> Callable[..., None]:
    """A function that runs the tracked task, which logs a metric."""

    def run(**arguments: str) -> None:
        import mlflow

        with task_run(context=a_try.context, experiment=experiment, **arguments):
            mlflow.log_metric("rmse", 0.5)

    return run


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
def later(fault_is_over: Callable[[], None]) -> Iterator[Callable[[float, Callable[[], None]], None]]:
    """A function that calls another one in a thread some seconds later, to end the fault."""
    threads: list[threading.Thread] = []

    def start(seconds: float, end: Callable[[], None]) -> None:
        def wait() -> None:
            time.sleep(seconds)
            end()
            fault_is_over()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
