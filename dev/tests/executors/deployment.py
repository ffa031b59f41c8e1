"""Airflow with its tasks on many machines, as the tests use and disturb it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local_stack.airflow_api import AirflowApi
    from local_stack.ports import Ports


class Deployment(ABC):
    """Airflow with one executor, its MLflow, Postgres and object store.

    A worker is a container of Celery or a task's pod.
    """

    executor: str  # such as CeleryExecutor
    airflow: AirflowApi  # logged in
    ports: Ports  # of Airflow and MLflow on this machine
    bucket: Any  # the S3 bucket of the artifacts, with the administrator's key

    @abstractmethod
    def workers(self) -> list[str]:
        """Return the names of the running workers."""

    @abstractmethod
    def worker_of(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
        """Return the name of the worker of a task instance's newest try."""

    @abstractmethod
    def run_in(self, worker: str, *command: str) -> str:
        """Run a command in a running worker, and return its output."""

    @abstractmethod
    def output(self, worker: str) -> str:
        """Return what a worker has printed, as a collector of container logs gets it."""

    @abstractmethod
    def kill(self, worker: str) -> None:
        """Kill a worker with all its processes, as ``kill -9`` does."""

    @abstractmethod
    def restart_mlflow(self) -> None:
        """Restart MLflow; return when it answers."""

    @abstractmethod
    def restart_scheduler(self) -> None:
        """Kill and start Airflow's scheduler; return when it has sent a heartbeat."""
