"""Both stacks with versitygw instead of MinIO: artifacts pass through MLflow, or go to the store directly."""

from __future__ import annotations

import boto3
import mlflow
import pytest
import requests

from dev.docker import build_images
from dev.docker.engine import engine
from dev.docker.project import GENERATED, KEYS, NAME, OVERRIDE, PORTS, Project
from dev.tests.helpers.artifacts import in_bucket, in_mlflow, mlflow_client
from dev.tests.helpers.clones import run_clone
from dev.tests.helpers.documentation import code
from dev.tools import minio
from local_stack.settings import ROOT
from mlflow_servers import free_port

OVERLAY = ROOT / "deploy" / "versitygw" / "docker-compose.yml"


@pytest.fixture(scope="session")
def program():
    return minio.versitygw_binary()


@pytest.fixture
def bucket_at(monkeypatch):
    """A function that returns the bucket at a port, for boto3 and for MLflow's client in this process."""

    def connect(port):
        for name, value in KEYS.items():
            monkeypatch.setenv(name.upper(), value)
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        store = boto3.resource("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", **KEYS)
        return store.Bucket("mlflow")

    return connect


def log_artifacts(client):
    """Log through the server, and to an experiment in the bucket."""
    for name, location in ("Through MLflow", None), ("Directly", "s3://mlflow/directly"):
        experiment = client.create_experiment(name, location)
        with mlflow.start_run(experiment_id=experiment):
            mlflow.log_text("1,2,3", "folder/features.csv")


def test_the_stack_without_docker_stores_all_artifacts_in_it(program, bucket_at, tmp_path, monkeypatch):
    folder = tmp_path / "clone"
    folder.mkdir()
    with run_clone(folder, str(program)) as clone:
        output = clone.make("up", **clone.ports)
        assert f"versitygw http://localhost:{clone.minio_console_port}" in output
        assert requests.get(f"http://localhost:{clone.minio_console_port}", timeout=60).ok
        bucket = bucket_at(clone.minio_port)
        client = mlflow_client(clone.mlflow_port, monkeypatch)
        log_artifacts(client)
        held = in_bucket(bucket)
        assert len(held) == 2
        assert in_mlflow(client, tmp_path) == held
        assert "failed" not in clone.make("doctor").lower()
        [process] = [each for each in clone.processes() if each.name() == "minio"]  # the link's name
        listening = [each.laddr.ip for each in process.net_connections("inet") if each.status == "LISTEN"]
        assert listening == ["127.0.0.1"] * 2

        clone.make("down")
        assert "Earlier artifacts are in versitygw." in clone.make("up", expect=2, MINIO="")


@pytest.fixture(scope="module")
def project():
    """The Docker project with its images."""
    with engine() as docker:
        if docker.is_ours:
            with build_images.building(docker, "mlflow", ("postgres", "versitygw")):
                pass
        project = Project(docker, f"{NAME}-versitygw", {port: free_port() for port in PORTS})
        project.down("--volumes", seconds=0)  # what an interrupted run left
        yield project
        project.down("--volumes", seconds=0)


def test_the_docker_stack_stores_all_artifacts_in_it(project, bucket_at, tmp_path, monkeypatch):
    project.up("mlflow", over=OVERLAY)

    client = mlflow_client(project.ports["MLFLOW_PORT"], monkeypatch)
    bucket = bucket_at(project.ports["MINIO_PORT"])
    log_artifacts(client)
    held = in_bucket(bucket)
    assert len(held) == 2
    assert in_mlflow(client, tmp_path) == held
    assert requests.get(f"http://localhost:{project.ports['MINIO_CONSOLE_PORT']}", timeout=60).ok


def test_the_documented_command_puts_it_into_the_override(project, tmp_path):
    command = code("docs/how-to/object-store.md", "Another object store", "bash")
    options = command.partition(" config ")[2].partition(" > ")[0].split()
    merged = tmp_path / "docker-compose.override.yml"
    merged.write_text(project.compose("config", *options, files=[OVERRIDE, OVERLAY]))

    assert project.config(files=[GENERATED, merged]) == project.config(files=[GENERATED, OVERRIDE, OVERLAY])
