"""What goes wrong at a user's, and what it looks like: the left column of the table in README.md.

Each test starts the stack as it needs it.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from local.settings import ROOT
from tests.helpers.artifacts import in_bucket

TABLE = (ROOT / "README.md").read_text()
# As in airflow_settings.yaml, but a failed request is not sent again: that takes a minute.
CONNECTION = {"conn_type": "mlflow", "host": "http://mlflow", "port": 5000, "extra": {"retries": 0}}


def explained(symptom: str, said: str) -> None:
    """Make sure that this is what a user sees, and what the table explains."""
    assert symptom in said, said[-3000:]
    assert symptom in TABLE


@pytest.fixture
def laid_over(tmp_path):
    """A function that writes a compose file to lay over the others."""

    def write(text: str) -> Path:
        file = tmp_path / "over.yaml"
        file.write_text(text)
        return file

    return write


def run_task(project, task: str = "mlflow_task_dag train", **connection: object) -> str:
    return project.run_task(task, AIRFLOW_CONN_MLFLOW_DEFAULT=json.dumps(CONNECTION | connection))


def server_log(project) -> str:
    return project.docker("logs", "--since=3m", project.container("mlflow"))


def test_a_taken_port_is_named(started, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setitem(started.ports, "MLFLOW_PORT", port)
        said = started.start_containers(check=False)
    assert f"127.0.0.1:{port}" in said
    explained("address already in use", said)


def test_minio_that_does_not_come_up_is_named(started, laid_over):
    started.docker("rm", "--force", started.container("mlflow"), started.container("minio-bucket"))
    silent = "entrypoint: [sleep], command: [infinity], stop_signal: SIGKILL"
    at_once = "healthcheck: { timeout: 1s, retries: 1, start_period: 0s }"
    said = started.start_containers(
        laid_over(f"services: {{ minio: {{ {silent}, {at_once} }} }}"), check=False
    )
    assert started.container("minio") in said
    explained("dependency failed to start", said)


def test_the_servers_log_names_minio_that_is_down(started):
    started.up()
    started.docker("stop", "--time=5", started.container("minio"))
    said = run_task(started)
    started.docker("start", started.container("minio"))
    explained("/mlflow-artifacts/", said)
    explained("EndpointConnectionError", server_log(started))


def test_the_servers_log_names_a_missing_bucket_and_the_next_start_makes_it(started):
    started.up()
    objects = in_bucket(started.bucket)
    started.bucket.objects.delete()
    started.bucket.delete()
    explained("/mlflow-artifacts/", run_task(started))
    explained("NoSuchBucket", server_log(started))
    started.up()
    assert "new_state=success" in run_task(started)
    for key, body in objects.items():
        started.bucket.put_object(Key=key, Body=body)


def test_the_servers_log_names_a_wrong_s3_key(started, laid_over):
    started.up(laid_over("services: { mlflow: { environment: { AWS_SECRET_ACCESS_KEY: wrong } } }"))
    explained("/mlflow-artifacts/", run_task(started))
    explained("SignatureDoesNotMatch", server_log(started))


def test_mlflow_waits_for_a_slow_database(started, laid_over):
    slow = "sleep 10; exec docker-entrypoint.sh postgres"
    started.up(laid_over(f"services: {{ mlflow-postgres: {{ entrypoint: [sh, -c, '{slow}'] }} }}"))
    assert "new_state=success" in run_task(started)


def test_a_name_that_mlflow_does_not_know_is_told(started):
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = started.docker("inspect", f"--format={form}", started.container("mlflow")).strip()
    explained("Invalid Host header", run_task(started, host=f"http://{address}"))
    said = run_task(started, "mlflow_tutorial_dag create_experiment", host=f"http://{address}")
    unknown = f"the server does not know itself as '{address}:5000'; add that to its --allowed-hosts"
    explained("does not know itself as", said)
    assert unknown in said
