"""What goes wrong at a user's, and what it looks like: the left column of the table in README.md."""

from __future__ import annotations

import json
import socket

import pytest

from local.settings import ROOT
from tests.docker.project import wait_until

TABLE = (ROOT / "README.md").read_text()
# As in airflow_settings.yaml, but a failed request is not sent again: that takes a minute.
CONNECTION = {"conn_type": "mlflow", "host": "http://mlflow", "port": 5000, "extra": {"retries": 0}}


def explained(symptom: str, said: str) -> None:
    """Make sure that this is what a user sees, and what the table explains."""
    assert symptom in said, said[-3000:]
    assert symptom in TABLE


@pytest.fixture(scope="module", autouse=True)
def _started(project):
    project.start()


@pytest.fixture
def laid_over(project, tmp_path):
    """A function that starts services anew with another compose file laid over; undone afterwards."""

    def start(text: str, *services: str, check: bool = True) -> str:
        file = tmp_path / "over.yaml"
        file.write_text(text)
        return project.up(*services, more=file, check=check)

    yield start
    project.up()
    wait_until(lambda: project.is_healthy("mlflow"), 300)


def run_task(project, **connection: object) -> str:
    return project.run_task(AIRFLOW_CONN_MLFLOW_DEFAULT=json.dumps(CONNECTION | connection))


def server_log(project) -> str:
    return project.docker("logs", "--since=3m", project.container("mlflow"))


def test_a_taken_port_is_named(project, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setitem(project.ports, "MLFLOW_PORT", port)
        said = project.up(check=False)
    assert f"127.0.0.1:{port}" in said
    explained("address already in use", said)
    monkeypatch.undo()
    project.up()
    wait_until(lambda: project.is_healthy("mlflow"), 300)


def test_minio_that_does_not_come_up_is_named(project, laid_over):
    project.docker("rm", "--force", project.container("mlflow"), project.container("minio-bucket"))
    said = laid_over("services: { minio: { entrypoint: [sleep], command: [infinity] } }", check=False)
    assert project.container("minio") in said
    explained("dependency failed to start", said)


def test_the_servers_log_names_minio_that_is_down(project):
    project.docker("stop", "--time=5", project.container("minio"))
    said = run_task(project)
    project.docker("start", project.container("minio"))
    explained("/mlflow-artifacts/", said)
    explained("EndpointConnectionError", server_log(project))


def test_the_servers_log_names_a_wrong_s3_key(project, laid_over):
    laid_over("services: { mlflow: { environment: { AWS_SECRET_ACCESS_KEY: wrong } } }", "mlflow")
    wait_until(lambda: project.is_healthy("mlflow"), 300)
    explained("/mlflow-artifacts/", run_task(project))
    explained("SignatureDoesNotMatch", server_log(project))


def test_the_servers_log_names_a_missing_bucket_and_the_next_start_makes_it(project):
    project.bucket.objects.delete()
    project.bucket.delete()
    explained("/mlflow-artifacts/", run_task(project))
    explained("NoSuchBucket", server_log(project))
    project.up()
    assert "new_state=success" in run_task(project)


def test_mlflow_waits_for_a_slow_database(project, laid_over):
    slow = "sleep 20; exec docker-entrypoint.sh postgres"
    laid_over(f"services: {{ mlflow-postgres: {{ entrypoint: [sh, -c, '{slow}'] }} }}")
    wait_until(lambda: project.is_healthy("mlflow"), 300)
    assert "new_state=success" in run_task(project)


def test_a_name_that_mlflow_does_not_know_is_told(project, laid_over):
    laid_over("services: { mlflow: { networks: { airflow: { aliases: [tracking] } } } }", "mlflow")
    wait_until(lambda: project.is_healthy("mlflow"), 300)
    explained("Invalid Host header", run_task(project, host="http://tracking"))
    hook = "mlflow_tutorial_dag create_experiment"
    said = project.run_task(
        hook, AIRFLOW_CONN_MLFLOW_DEFAULT=json.dumps(CONNECTION | {"host": "http://tracking"})
    )
    assert "the server does not know itself as 'tracking:5000'; add that to its --allowed-hosts" in said
