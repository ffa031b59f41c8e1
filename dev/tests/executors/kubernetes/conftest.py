"""Tasks that run beside all other tests of this folder, until their first token has expired."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from dev.tests.executors.tracked_dag_run import FIRST_TRIES, TrackedDagRun

if TYPE_CHECKING:
    from dev.tests.executors.kubernetes.deployment import KubernetesDeployment


@pytest.fixture(scope="session", autouse=True)
def old_tasks(deployment: KubernetesDeployment) -> Iterator[TrackedDagRun]:
    """Two tasks that log since the first test began."""
    mlflow = MlflowClient(f"http://127.0.0.1:{deployment.ports.mlflow}")
    tasks = TrackedDagRun(deployment, mlflow, "logs_until_stopped")
    tasks.wait_until_logging(*FIRST_TRIES)
    yield tasks
    tasks.stop()


@pytest.fixture(scope="session", autouse=True)
def old_token(deployment: KubernetesDeployment, old_tasks: TrackedDagRun) -> str:
    """The first token of one of these tasks."""
    return deployment.run_in(old_tasks.worker(0), "cat", "/var/run/secrets/mlflow/token")
