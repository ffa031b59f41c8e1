"""Airflow with its tasks on many machines, as a test uses and upsets it; each executor makes its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local_stack.airflow_api import AirflowApi
    from local_stack.ports import Ports


class Deployment(ABC):
    """Airflow with one executor, and the MLflow, Postgres and object store that it works with.

    A worker is what a task runs in, and may die with: a container of Celery's, or a task's pod.
    """

    executor: str  # such as CeleryExecutor
    airflow: AirflowApi  # logged in
    ports: Ports  # where Airflow and MLflow answer on this machine
    bucket: Any  # the artifacts' S3 bucket, as the store's administrator sees it

    @abstractmethod
    def workers(self) -> list[str]:
        """Return the names of the workers that are there."""

    @abstractmethod
    def worker_of(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
        """Return the name of the worker that runs, or ran, a task instance's newest try."""

    @abstractmethod
    def run_in(self, worker: str, *command: str) -> str:
        """Run a command in a worker that is there, and return what it says."""

    @abstractmethod
    def kill(self, worker: str) -> None:
        """Kill a worker with all its processes, as ``kill -9`` does."""

    @abstractmethod
    def restart_mlflow(self) -> None:
        """Restart MLflow as an administrator would; return when it answers again."""

    @abstractmethod
    def restart_scheduler(self) -> None:
        """Kill Airflow's scheduler, and start it; return when it has given a sign of life."""
