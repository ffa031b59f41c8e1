"""The deployment that the tests of this folder share; the variable EXECUTOR selects it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from dev import MissingError
from dev.tests.executors.tracked_dag_run import FIRST_TRIES, TrackedDagRun
from dev.tests.helpers.artifacts import mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from dev.tests.executors.deployment import Deployment

EXECUTOR = os.environ.get("EXECUTOR")
# The module whose `running()` yields the deployment, and the tests of one executor only.
MODULES = {"celery": "celery", "kubernetes": "kubernetes.deployment"}
OWN_TESTS = {"celery": "test_celery.py", "kubernetes": "kubernetes"}

collect_ignore = [name for executor, name in OWN_TESTS.items() if EXECUTOR not in (None, executor)]


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    """Airflow with the selected executor, MLflow, and their databases and store; removed afterwards."""
    if not EXECUTOR:
        raise MissingError("Run `make -C dev celery-test` or `make -C dev kubernetes-test`.")
    module = importlib.import_module(f"dev.tests.executors.{MODULES[EXECUTOR]}")
    with module.running() as deployment:
        yield deployment


@pytest.fixture
def mlflow(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """MLflow's client, on this machine."""
    return mlflow_client(deployment.ports.mlflow, monkeypatch)


@pytest.fixture
def run_dag(deployment: Deployment, mlflow: MlflowClient) -> Iterator[Callable[[str], TrackedDagRun]]:
    """A function that starts a DAG run; tasks that still wait when the test ends are finished."""
    started: list[TrackedDagRun] = []

    def run_dag(dag_id: str) -> TrackedDagRun:
        started.append(TrackedDagRun(deployment, mlflow, dag_id))
        return started[-1]

    yield run_dag
    for dag_run in started:
        dag_run.stop()
        dag_run.wait_for_end()


@pytest.fixture
def tasks(run_dag: Callable[[str], TrackedDagRun]) -> TrackedDagRun:
    """Two tasks that log until a test ends them."""
    tasks = run_dag("logs_until_stopped")
    tasks.wait_until_logging(*FIRST_TRIES)
    return tasks
