"""The project, started as the Astro CLI starts it: image, compose file, connections."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import yaml

from dev.docker import build_images
from dev.docker.engine import Docker, engine
from dev.waiting import wait_until
from local_stack.airflow_api import AirflowApi
from local_stack.ports import Ports
from local_stack.settings import ROOT

NAME = "astro-test"
IMAGE = f"{NAME}/airflow:latest"
GENERATED = Path(__file__).with_name("astro-compose.yaml")
OVERRIDE = ROOT / "docker-compose.override.yml"
CELERY = ROOT / "deploy" / "celery" / "docker-compose.yml"  # replaces GENERATED
# Stand-ins cannot have the digest of the real image.
WITHOUT_DIGESTS = Path(__file__).with_name("without-digests.yaml")
PORTS = ("AIRFLOW_PORT", "MLFLOW_PORT", "MINIO_PORT", "MINIO_CONSOLE_PORT", "POSTGRES_PORT")
# MLflow's own, which open only its bucket.
KEYS = {"aws_access_key_id": "mlflow-demo", "aws_secret_access_key": "mlflow-demo-secret"}
DAG_FILES = sorted(path.name for path in (ROOT / "dags").glob("*.py"))


@contextmanager
def built_images() -> Iterator[Docker]:
    """Yield Docker's command line, with all images; the project's image is removed afterwards.

    :raises MissingError: this machine has no Docker engine and cannot run our own.
    """
    with engine() as docker:
        with build_images.building(docker) if docker.is_ours else nullcontext():
            began = time.monotonic()
            docker("build", "--quiet", f"--tag={IMAGE}", ROOT)
            print(f"Image of the project ({time.monotonic() - began:.0f} s)", flush=True)
        yield docker
        docker("image", "rm", "--force", IMAGE)


@dataclass
class Project:
    """The containers of one Compose project, on its own ports.

    :param name: prefix of its containers and volumes.
    :param ports: by the variables in ``PORTS``.
    :param dag_files: the DAG files in the image.
    """

    docker: Docker
    name: str
    ports: dict[str, int]
    dag_files: list[str] = field(default_factory=lambda: DAG_FILES)

    @property
    def files(self) -> list[Path]:
        return [GENERATED, OVERRIDE, *([WITHOUT_DIGESTS] if self.docker.is_ours else [])]

    @property
    def bucket(self) -> Any:
        """The bucket, as MinIO's administrator sees it."""
        import boto3

        login = {"aws_access_key_id": "minio-demo", "aws_secret_access_key": "minio-demo-secret"}
        address = f"http://127.0.0.1:{self.ports['MINIO_PORT']}"
        return boto3.resource("s3", endpoint_url=address, region_name="us-east-1", **login).Bucket("mlflow")

    def compose(
        self, *arguments: str, files: list[Path] | None = None, check: bool = True, **variables: str
    ) -> str:
        """Run ``docker compose`` on the project; only ``variables`` are interpolated."""
        environment = {"COMPOSE_PROJECT_NAME": self.name, "PROJECT": str(ROOT), **variables}
        chosen = [f"--file={file}" for file in files or self.files]
        return self.docker(
            "compose",
            "--env-file=/dev/null",
            f"--project-directory={ROOT}",
            "--progress=plain",
            *chosen,
            *arguments,
            check=check,
            **environment,
        )

    def config(self, **options: Any) -> dict[str, Any]:
        """Return the merged compose files, as Compose reads them."""
        return yaml.safe_load(self.compose("config", **options))

    def up(self, *services: str, over: Path | None = None) -> None:
        """Start services as the files say; return when MLflow responds."""
        self.start_containers(*services, over=over)
        wait_until("MLflow answers", self.mlflow_answers)

    def start_containers(
        self, *services: str, over: Path | None = None, wait: bool = False, check: bool = True
    ) -> str:
        """Start services as the files say, and return the output of Compose.

        :param services: by default all; their dependencies are started as well.
        :param over: a compose file that overrides the others.
        :param wait: until the services are healthy.
        """
        files = [*self.files, *([over] if over else [])]
        variables = {name: str(port) for name, port in self.ports.items()}
        return self.compose(
            "up", "--wait" if wait else "--detach", *services, files=files, check=check, **variables
        )

    def start(self) -> None:
        """Start it as ``astro dev start`` does; return when all DAGs are read."""
        began = time.monotonic()
        print("Starting", end=" ", flush=True)
        self.start_containers()
        wait_until("Airflow answers", self.answers)
        apply_settings(self)
        airflow = self.airflow_api()
        wait_until("all DAGs are read", lambda: sorted(airflow.parsed()), self.dag_files.__eq__)
        wait_until("MLflow answers", self.mlflow_answers)
        print(f"({time.monotonic() - began:.0f} s)", flush=True)

    def is_started(self) -> bool:
        """Tell whether it was started, and not removed since."""
        return bool(self.docker("ps", "--quiet", f"--filter=name=^{self.container('scheduler')}$"))

    def mlflow_answers(self) -> bool:
        """Tell whether MLflow's API answers, outside the containers."""
        url = f"http://127.0.0.1:{self.ports['MLFLOW_PORT']}/api/2.0/mlflow/experiments/search?max_results=1"
        try:
            return requests.get(url, timeout=30).ok
        except requests.RequestException:
            return False

    def answers(self) -> bool:
        """Tell whether all components of Airflow send heartbeats."""
        try:
            heartbeats = AirflowApi(self.ports["AIRFLOW_PORT"]).heartbeats()
        except requests.RequestException:
            return False
        return {"scheduler", "triggerer", "dag-processor"} <= heartbeats.keys()

    def down(self, *options: str, seconds: int = 20) -> None:
        """Stop and remove the containers; after that time they are killed."""
        self.compose("down", f"--timeout={seconds}", *options)

    def volumes(self) -> list[str]:
        """Return the names of the volumes with the data."""
        return self.docker("volume", "ls", "--quiet", f"--filter=name=^{self.name}_").split()

    def container(self, service: str) -> str:
        return f"{self.name}-{service}-1"

    def is_healthy(self, service: str) -> bool:
        form = "--format={{.State.Health.Status}}"
        return self.docker("inspect", form, self.container(service), check=False).strip() == "healthy"

    def log(self, service: str) -> str:
        return self.docker("logs", self.container(service))

    def airflow(self, command: str, check: bool = True, **environment: str) -> str:
        """Run a command where tasks run, as the Astro CLI does."""
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        return self.docker(
            "exec", *variables, self.container("scheduler"), "bash", "-c", command, check=check
        )

    def airflow_api(self) -> AirflowApi:
        api = AirflowApi(self.ports["AIRFLOW_PORT"])
        api.log_in()
        return api

    def run_task(self, task: str = "mlflow_task_dag train", **environment: str) -> str:
        """Run a task once where tasks run, and return its log."""
        # Otherwise the scheduler may run the task first.
        self.airflow_api().call("PATCH", f"/api/v2/dags/{task.split()[0]}", json={"is_paused": True})
        return self.airflow(f"airflow tasks test {task}", check=False, **environment)

    def pytest(self, what: str, dags: Path = ROOT / "dags", check: bool = True) -> str:
        """Run pytest in the image, as ``astro dev parse`` and ``astro dev pytest`` do.

        .. seealso:: ``airflow/docker_image.go`` of https://github.com/astronomer/astro-cli
        """
        mounts = [f"--volume={dags}:/usr/local/airflow/dags:ro"]
        mounts += [
            f"--volume={ROOT / name}:/usr/local/airflow/{name}:z"
            for name in ("plugins", "include", ".astro", "tests")
        ]
        return self.docker("run", "--rm", *mounts, IMAGE, "pytest", what, "-v", check=check)

    @property
    def local_ports(self) -> Ports:
        return Ports(airflow=self.ports["AIRFLOW_PORT"], mlflow=self.ports["MLFLOW_PORT"])


def apply_settings(project: Project) -> None:
    """Create the connections of ``airflow_settings.yaml``, by the commands that the Astro CLI uses.

    .. seealso:: ``settings/settings.go`` of https://github.com/astronomer/astro-cli
    """
    settings = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())["airflow"]
    listed = project.airflow("airflow connections list -o plain")
    for connection in settings["connections"]:
        name = shlex.quote(connection["conn_id"])
        if connection["conn_id"] in listed:
            project.airflow(f"airflow connections delete {name}")
        fields = {key: str(value) for key, value in connection.items() if value and key != "conn_id"}
        if extra := connection["conn_extra"]:
            fields["conn_extra"] = json.dumps(extra)
        options = " ".join(f"--{key.replace('_', '-')} {shlex.quote(value)}" for key, value in fields.items())
        output = project.airflow(f"airflow connections add {name} {options}")
        assert re.search("[Ss]uccessfully added", output), output
