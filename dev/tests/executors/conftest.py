"""The deployment that all tests of this folder share; the variable EXECUTOR chooses which.

Each executor has a module ``tests.executors.<executor>``, whose ``running()`` is a context manager that
gives the deployment.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.tests.docker.engine import MissingError
from dev.tests.executors.tracked_dag_run import FIRST_TRIES, TrackedDagRun
from dev.tests.helpers.artifacts import mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from dev.tests.executors.deployment import Deployment

HERE = Path(__file__).parent
# What only one executor can be asked: a file or a folder.
OWN_TESTS = {"celery": "test_celery.py", "kubernetes": "kubernetes"}
EXECUTOR = os.environ.get("EXECUTOR")

collect_ignore = [name for executor, name in OWN_TESTS.items() if EXECUTOR not in (None, executor)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip them where no executor is chosen, as in `make faults`, which only names them."""
    for item in items:
        if item.path.is_relative_to(HERE) and not EXECUTOR:
            commands = " or ".join(f"`make {executor}-test`" for executor in OWN_TESTS)
            item.add_marker(pytest.mark.skip(reason=f"{commands} runs it."))


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    """Airflow with the chosen executor, and all that it works with; gone afterwards."""
    module = importlib.import_module(f"tests.executors.{EXECUTOR}")
    try:
        with module.running() as deployment:
            yield deployment
    except MissingError as missing:
        # A machine that is there to test must not pass for want of the means.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))


@pytest.fixture
def mlflow(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """MLflow's client, on this machine."""
    return mlflow_client(deployment.ports.mlflow, monkeypatch)


@pytest.fixture
def run_dag(deployment: Deployment, mlflow: MlflowClient) -> Iterator[Callable[[str], TrackedDagRun]]:
    """A function that starts a DAG run; tasks of it that still wait when the test ends are told to end."""
    started: list[TrackedDagRun] = []

    def run_dag(dag_id: str) -> TrackedDagRun:
        started.append(TrackedDagRun(deployment, mlflow, dag_id))
        return started[-1]

    yield run_dag
    for dag_run in started:
        dag_run.tell()
        dag_run.wait_for_end()


@pytest.fixture
def tasks(run_dag: Callable[[str], TrackedDagRun]) -> TrackedDagRun:
    """Two tasks that log until they are told to end, and have begun to."""
    tasks = run_dag("logs_until_told")
    tasks.wait_until_logging(*FIRST_TRIES)
    return tasks
