"""Failures of the Docker stack and their messages: the left column of the table on their page."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow.exceptions import MlflowException

from dev.tests.helpers.artifacts import mlflow_client
from dev.waiting import wait_until
from local_stack.settings import ROOT

TABLE = (ROOT / "docs" / "troubleshooting" / "docker.md").read_text()
# As in airflow_settings.yaml, but without retries, which take a minute.
CONNECTION = {"conn_type": "mlflow", "host": "http://mlflow", "port": 5000, "extra": {"retry_timeout": 1}}


def assert_explained(symptom: str, output: str) -> None:
    """Check that a user sees the symptom, and that the table explains it."""
    assert symptom in output, output[-3000:]
    assert symptom in TABLE


@pytest.fixture
def overridden(tmp_path):
    """A function that writes a compose file that overrides the others."""

    def write(services: str) -> Path:
        file = tmp_path / "over.yaml"
        file.write_text(f"services: {{ {services} }}")
        return file

    return write


@pytest.fixture
def write_artifact(alone, monkeypatch):
    """A function that writes an artifact through the server, as a task does."""
    client = mlflow_client(alone.ports["MLFLOW_PORT"], monkeypatch)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def write() -> None:
        run = client.create_run(client.create_experiment(f"Failures {uuid4()}"))
        client.log_text(run.info.run_id, "text", "file.txt")

    return write


def run_task(project, task: str = "mlflow_task_dag train", **connection: object) -> str:
    return project.run_task(task, AIRFLOW_CONN_MLFLOW_DEFAULT=json.dumps(CONNECTION | connection))


def test_a_taken_port_is_named(alone, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setitem(alone.ports, "MLFLOW_PORT", port)
        output = alone.start_containers("mlflow", check=False)
    assert f"127.0.0.1:{port}" in output
    assert_explained("address already in use", output)


def test_a_minio_that_does_not_start_is_named(alone, overridden):
    silent = "entrypoint: [sleep], command: [infinity], stop_signal: SIGKILL"
    impatient = "healthcheck: { timeout: 1s, retries: 1, start_period: 0s }"
    override = overridden(f"minio: {{ {silent}, {impatient} }}")
    alone.down()
    output = alone.start_containers("minio-bucket", over=override, check=False)
    assert alone.container("minio") in output
    assert_explained("dependency failed to start", output)


def test_a_database_of_a_newer_mlflow_is_named(alone):
    alone.up("mlflow")
    change = ("psql", "--username=mlflow", "--command=UPDATE alembic_version SET version_num = 'newer'")
    alone.docker("exec", alone.container("mlflow-postgres"), *change)
    output = alone.start_containers("mlflow", check=False)
    alone.down("--volumes")
    assert_explained("mlflow-db-upgrade", output)
    assert_explained("didn't complete successfully", output)


@pytest.mark.fault(
    "In Docker: MinIO is down",
    sees="the task's error names /mlflow-artifacts/; MLflow's log: EndpointConnectionError",
    green="with *Clear*, when it is up",
)
def test_without_minio_the_tasks_log_names_artifacts_and_the_servers_log_the_store(started):
    started.docker("stop", "--time=5", started.container("minio"))
    try:
        output = run_task(started)
    finally:
        started.start_containers()
    assert_explained("/mlflow-artifacts/", output)
    assert_explained("EndpointConnectionError", started.log("mlflow"))


@pytest.mark.fault(
    "In Docker: the bucket is gone",
    sees="MLflow's log: NoSuchBucket",
    green="by `astro dev start`, which creates it",
)
def test_the_servers_log_names_a_missing_bucket_and_the_next_start_creates_it(alone, write_artifact):
    alone.up("mlflow")
    alone.bucket.objects.delete()
    alone.bucket.delete()
    with pytest.raises(MlflowException, match="/mlflow-artifacts/"):
        write_artifact()
    assert_explained("NoSuchBucket", alone.log("mlflow"))
    alone.up("mlflow")
    write_artifact()


@pytest.mark.fault(
    "In Docker: MLflow's keys of the store are wrong",
    sees="MLflow's log: SignatureDoesNotMatch",
    green="when they are corrected",
)
def test_the_servers_log_names_a_wrong_s3_key(alone, overridden, write_artifact):
    alone.up("mlflow", over=overridden("mlflow: { environment: { AWS_SECRET_ACCESS_KEY: wrong } }"))
    with pytest.raises(MlflowException, match="/mlflow-artifacts/"):
        write_artifact()
    assert_explained("SignatureDoesNotMatch", alone.log("mlflow"))


@pytest.mark.fault(
    "In Docker: MLflow's Postgres takes 10 s to start",
    sees="MLflow starts later",
    green="by itself",
)
def test_mlflow_waits_for_a_slow_database(alone, overridden, write_artifact):
    slow = "sleep 10; exec docker-entrypoint.sh postgres"
    alone.up("mlflow", over=overridden(f"mlflow-postgres: {{ entrypoint: [sh, -c, '{slow}'] }}"))
    wait_until("MLflow is healthy", lambda: alone.is_healthy("mlflow"))
    write_artifact()


@pytest.mark.fault(
    "In Docker: MLflow's Postgres is killed and restarted",
    sees="a request that takes longer",
    green="by itself",
)
def test_mlflow_continues_after_a_restart_of_its_database(alone, write_artifact, fault_is_over):
    alone.up("mlflow")
    write_artifact()
    alone.docker("kill", "--signal=KILL", alone.container("mlflow-postgres"))
    alone.start_containers("mlflow-postgres", wait=True)
    fault_is_over()
    write_artifact()


def test_a_host_name_that_mlflow_rejects_is_named(started):
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = started.docker("inspect", f"--format={form}", started.container("mlflow")).strip()
    package = (
        "from mlflow_provider.hooks.base import MLflowBaseHook as Hook; Hook().client.search_experiments()"
    )
    connection = json.dumps(CONNECTION | {"host": f"http://{address}"})
    output = started.airflow(f"python -c '{package}'", check=False, AIRFLOW_CONN_MLFLOW_DEFAULT=connection)
    assert_explained("Invalid Host header", output)
    output = run_task(started, host=f"http://{address}")
    assert_explained("rejects the host name", output)
    assert f"rejects the host name '{address}:5000'; add it to the server's --allowed-hosts" in output
