"""The Docker stack with Celery workers: deploy/celery/docker-compose.yml, as the Astro CLI starts it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.docker.project import (
    CELERY,
    DAG_FILES,
    IMAGE,
    OVERRIDE,
    PORTS,
    WITHOUT_DIGESTS,
    Project,
    built_images,
)
from dev.tests.executors.deployment import Deployment
from dev.waiting import wait_until
from mlflow_servers import free_port

HERE = Path(__file__).parent
NAME = "celery-test"
IMAGE_UNDER_TEST = f"{NAME}/airflow:latest"
WORKERS = 4


@dataclass
class CeleryProject(Project):
    """The containers of the Compose project with Celery workers."""

    @property
    def files(self) -> list[Path]:
        digests = [WITHOUT_DIGESTS] if self.docker.is_ours else []
        return [CELERY, OVERRIDE, *digests, HERE / "celery.yaml"]

    def compose(self, *arguments: str, **options: Any) -> str:
        chosen = {"AIRFLOW_IMAGE": IMAGE_UNDER_TEST, "WORKERS": str(WORKERS)}
        return super().compose(*arguments, **{**chosen, **options})


class CeleryDeployment(Deployment):
    executor = "CeleryExecutor"

    def __init__(self, project: CeleryProject) -> None:
        self.project = project
        self.docker = project.docker
        self.airflow = project.airflow_api()
        self.ports = project.local_ports
        self.bucket = project.bucket

    def workers(self) -> list[str]:
        return sorted(self._workers_by_id().values())

    def worker_of(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
        task = self.airflow.task_instance(dag_id, run_id, task_id, map_index)
        return self._workers_by_id()[task["hostname"]]

    def run_in(self, worker: str, *command: str) -> str:
        return self.docker("exec", worker, *command)

    def output(self, worker: str) -> str:
        return self.docker("logs", worker)

    def kill(self, worker: str) -> None:
        # The kernel protects the first process, which ends with the others; Docker restarts the container.
        self.docker("exec", "--user=root", worker, "sh", "-c", "kill -KILL -1", check=False)

    def restart_mlflow(self) -> None:
        self.docker("restart", self.project.container("mlflow"))
        wait_until("MLflow answers", self.project.mlflow_answers)

    def restart_scheduler(self) -> None:
        scheduler = self.project.container("scheduler")
        self.docker("kill", "--signal=KILL", scheduler)
        killed = time.time()
        self.docker("start", scheduler)
        wait_until(
            "the scheduler has sent a heartbeat",
            lambda: self.airflow.heartbeats().get("scheduler", 0),
            lambda moment: moment > killed,
        )

    def restart_queue(self) -> None:
        """Kill and start the queue."""
        queue = self.project.container("valkey")
        self.docker("kill", "--signal=KILL", queue)
        self.docker("start", queue)
        wait_until("the queue is healthy", lambda: self.project.is_healthy("valkey"))

    @contextmanager
    def network_cut(self, worker: str) -> Iterator[None]:
        """Disconnect a worker from the network for a block."""
        network = f"{self.project.name}_airflow"
        self.docker("network", "disconnect", network, worker)
        try:
            yield
        finally:
            self.docker("network", "connect", "--alias=worker", network, worker)

    @contextmanager
    def impatient_worker(self) -> Iterator[None]:
        """Run another worker for a block, which treats tasks as lost after 5 s."""
        name = f"{self.project.name}-impatient"
        impatient = "--env=AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT=5"
        self.project.compose("run", "--detach", "--no-deps", f"--name={name}", impatient, "worker")
        try:
            yield
        finally:
            self.docker("rm", "--force", name)

    def _workers_by_id(self) -> dict[str, str]:
        """Return the names of the workers' containers, by their IDs, which are their host names."""
        labels = {"com.docker.compose.project": self.project.name, "com.docker.compose.service": "worker"}
        filters = [f"--filter=label={name}={value}" for name, value in labels.items()]
        listed = self.docker("ps", *filters, "--format={{.ID}} {{.Names}}")
        return dict(line.split() for line in listed.splitlines())


@contextmanager
def running() -> Iterator[CeleryDeployment]:
    """Start it, and remove it at the end, as well as what an interrupted run left.

    :raises MissingError: this machine has no Docker engine and cannot run our own.
    """
    with built_images() as docker:
        dags = HERE / "dags"
        options = [f"--file={HERE / 'Dockerfile'}", f"--build-arg=IMAGE={IMAGE}", f"--tag={IMAGE_UNDER_TEST}"]
        docker("build", "--quiet", *options, dags)
        dag_files = sorted([*DAG_FILES, *(file.name for file in dags.glob("*.py"))])
        project = CeleryProject(docker, NAME, {port: free_port() for port in PORTS}, dag_files)
        project.down("--volumes", seconds=0)
        try:
            project.start()
            yield CeleryDeployment(project)
        finally:
            project.down("--volumes", seconds=0)
            docker("image", "rm", "--force", IMAGE_UNDER_TEST)
