"""The stack without Docker where a MinIO is at hand: it holds the artifacts, and loses none.

The tests are one story, told in order, as in test_embedded_stack.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import boto3
import mlflow
import pytest
import requests
import yaml

from tests.helpers.artifacts import in_bucket, in_mlflow
from tests.helpers.clones import run_clone
from tests.helpers.minio_build import minio_binary

pytestmark = pytest.mark.timeout(1800)  # the first test may have to compile MinIO

DAG_IDS = ["mlflow_tutorial_dag", "mlflow_hook_dag", "mlflow_operator_dag", "mlflow_task_dag"]
SCALER = "attributes.run_name = 'Scaler'"  # the tutorial's run


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    with run_clone(tmp_path_factory.mktemp("clone").resolve(), str(minio_binary())) as clone:
        yield clone


class Settings:
    """The clone's airflow_settings.yaml."""

    def __init__(self, clone):
        self.file = clone.folder / "airflow_settings.yaml"

    def __getitem__(self, conn_id):
        return self._read()[1][conn_id]

    def change(self, conn_id, **fields):
        settings, connections = self._read()
        connections[conn_id].update(fields)
        self.file.write_text(yaml.safe_dump(settings))

    def _read(self):
        settings = yaml.safe_load(self.file.read_text())
        return settings, {entry["conn_id"]: entry for entry in settings["airflow"]["connections"]}


@pytest.fixture
def settings(clone):
    return Settings(clone)


@pytest.fixture
def keys(settings):
    return settings["minio_default"]["conn_login"], settings["minio_default"]["conn_password"]


@pytest.fixture
def objects(clone, keys):
    """A function that returns what the bucket holds: content by key."""

    resource = boto3.resource(
        "s3",
        endpoint_url=f"http://127.0.0.1:{clone.minio_port}",
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        region_name="us-east-1",
    )
    return lambda: in_bucket(resource.Bucket("mlflow"))


@pytest.fixture
def client(clone, keys, monkeypatch):
    """MLflow's client; the keys are for those experiments only that lie in S3."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{clone.mlflow_port}")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{clone.minio_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])
    return mlflow.MlflowClient()


@pytest.fixture
def artifacts(client, tmp_path):
    """A function that returns what MLflow has of all runs and models: content by the key it should have."""
    return lambda: in_mlflow(client, tmp_path)


def assert_shows_the_demo(clone, output):
    for dag_id in DAG_IDS:
        assert re.search(rf"^ {dag_id} +success ", output, re.MULTILINE), output
    assert f"MinIO    http://localhost:{clone.minio_console_port}  (" in output


def minio_process(clone):
    return next(process for process in clone.processes() if process.name() == "minio")


def test_the_demo_runs_from_nothing(clone):
    assert_shows_the_demo(clone, clone.make("demo", **clone.ports))


def test_every_artifact_is_in_minio_and_equals_what_mlflow_returns(clone, client, artifacts, objects):
    experiment = client.get_experiment_by_name("Housing").experiment_id
    (run,) = client.search_runs([experiment], SCALER)
    folder = f"{run.info.experiment_id}/{run.info.run_id}/artifacts"
    held = objects()
    print("\n".join(held))
    assert {f"{folder}/features.csv", f"{folder}/scaled_features.csv"} < held.keys()
    assert any(re.fullmatch(r"\d+/models/m-\w+/artifacts/MLmodel", key) for key in held)
    assert artifacts() == held
    assert not (clone.folder / ".local/data/mlflow/artifacts").exists()


def test_everything_listens_on_loopback_only(clone):
    listening = clone.listening()
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}
    assert {str(address.port) for address in listening} == set(clone.ports.values())


def test_no_key_is_in_the_arguments_or_logs_of_a_process(clone, keys):
    said = "".join(" ".join(process.cmdline()) for process in clone.processes())
    said += "".join(log.read_text() for log in (clone.folder / ".local/logs").iterdir())
    assert ".local/minio server" in said
    assert keys[1] not in said


def test_only_minio_and_mlflow_have_a_key_in_their_environment(clone, keys):
    holders = {
        process.environ().get("LOCAL_STACK_COMPONENT")
        for process in clone.processes()
        if keys[1] in process.environ().values()
    }
    assert holders == {"minio", "mlflow"}


def test_the_configuration_with_the_keys_is_for_its_owner_only(clone, keys):
    config = clone.folder / ".local/supervisor.conf"
    assert keys[1] in config.read_text()
    assert config.stat().st_mode & 0o077 == 0


def test_nothing_is_written_outside_the_clone(clone):
    opened = {Path(file.path) for file in minio_process(clone).open_files()}
    assert {file for file in opened if not file.is_relative_to(clone.folder)} == set()
    assert minio_process(clone).environ()["HOME"] == str(clone.folder / ".local")


def test_status_shows_the_console(clone):
    address = f"http://localhost:{clone.minio_console_port}"
    assert re.search(rf"^ minio +up +\d+ +{address} ", clone.make("status"), re.MULTILINE)


def test_the_console_takes_the_login_that_the_demo_names(clone, keys):
    login = {"accessKey": keys[0], "secretKey": keys[1]}
    response = requests.post(
        f"http://localhost:{clone.minio_console_port}/api/v1/login", json=login, timeout=30
    )
    assert response.status_code == 204, response.text


def test_another_store_is_refused_while_it_is_up(clone):
    output = clone.make("up", expect=2, MINIO="")
    assert "Already up, with the artifacts in MinIO; to change that, `make down` first." in output


def test_minio_comes_back_when_it_is_killed(clone, objects):
    before = objects()
    killed = minio_process(clone)
    killed.kill()
    clone.make("up")
    assert minio_process(clone).pid != killed.pid
    assert objects() == before


def test_tasks_write_to_s3_themselves_when_the_experiment_lies_there(
    clone, settings, client, artifacts, objects
):
    """With the keys of the connection that ``mlflow_default`` names, and the DAG as it is."""
    client.rename_experiment(client.get_experiment_by_name("Housing").experiment_id, "Housing before")
    experiment = client.create_experiment("Housing", artifact_location="s3://mlflow/direct")
    extra = settings["mlflow_default"]["conn_extra"]
    settings.change("mlflow_default", conn_extra={**extra, "artifact_conn_id": "minio_default"})
    assert_shows_the_demo(clone, clone.make("demo"))
    (run,) = client.search_runs([experiment], SCALER)
    assert run.info.artifact_uri.startswith("s3://mlflow/direct/")
    held = objects()
    print("\n".join(held))
    assert {f"direct/{run.info.run_id}/artifacts/{name}.csv" for name in ("features", "scaled_features")} < (
        held.keys()
    )
    assert any(re.fullmatch(r"direct/models/m-\w+/artifacts/MLmodel", key) for key in held)
    assert artifacts() == held


def test_down_leaves_nothing_running_and_no_port_held(clone):
    assert "Stopped" in clone.make("down")
    clone.assert_nothing_is_left()


def test_without_minio_it_does_not_start_as_no_earlier_artifact_would_be_found(clone):
    output = clone.make("up", expect=2, **clone.ports, MINIO="")
    assert "Earlier artifacts are in MinIO" in output
    clone.assert_nothing_is_left()


def test_artifacts_outlive_the_stack(clone, objects, artifacts):
    clone.make("up", **clone.ports)
    held = objects()
    assert len(held) > 4 * len(DAG_IDS)
    assert artifacts() == held


def test_a_new_password_is_learnt_by_a_restart(clone, settings):
    settings.change("minio_default", conn_password="another-demo-secret")
    output = clone.make("up", expect=2)
    assert "MinIO does not take the keys of minio_default; it learns new ones from `make down up`." in output
    clone.make("down")
    clone.make("up", **clone.ports)


def test_the_new_password_opens_the_same_artifacts(client, objects):
    experiment = client.get_experiment_by_name("Housing before").experiment_id
    (run,) = client.search_runs([experiment], SCALER)
    file = Path(client.download_artifacts(run.info.run_id, "features.csv"))
    assert file.read_bytes() == objects()[f"{experiment}/{run.info.run_id}/artifacts/features.csv"]
