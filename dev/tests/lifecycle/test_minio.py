"""The stack with MinIO, which stores the artifacts and loses none."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import mlflow
import pytest
import requests
import yaml
from playwright.sync_api import expect

from dev.tests.helpers.artifacts import in_bucket, in_mlflow
from dev.tests.helpers.pictures import PIXELS, SHOTS, WINDOW, picture_file, take_picture
from dev.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from dev.tests.helpers.clones import Clone

SCALER = "attributes.run_name = 'Scaler'"  # the tutorial's run


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


pytestmark = pytest.mark.usefixtures("required_minio")


@pytest.fixture(scope="session")
def demo_output(_clone: Clone, interrupted: object) -> str:
    """The output of ``make demo``, whose artifacts the tests read."""
    return _clone.make("demo", **({} if (_clone.folder / ".local" / "ports.json").exists() else _clone.ports))


@pytest.fixture
def running(demo_output: str, running: Clone) -> Clone:
    """The copy with its stack up, and the artifacts of a demo in it."""
    return running


@pytest.fixture
def settings(running):
    return Settings(running)


@pytest.fixture
def keys(settings):
    return settings["minio_default"]["conn_login"], settings["minio_default"]["conn_password"]


@pytest.fixture
def objects(running, keys):
    """A function that returns the objects of the bucket: content by key."""
    resource = boto3.resource(
        "s3",
        endpoint_url=f"http://127.0.0.1:{running.minio_port}",
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        region_name="us-east-1",
    )
    return lambda: in_bucket(resource.Bucket("mlflow"))


@pytest.fixture
def client(running, keys, monkeypatch):
    """MLflow's client, with keys for experiments whose artifact location is in S3."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{running.mlflow_port}")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{running.minio_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])
    return mlflow.MlflowClient()


@pytest.fixture
def artifacts(client, tmp_path):
    """A function that returns the artifacts of all runs and models: content by their key in the bucket."""
    return lambda: in_mlflow(client, tmp_path)


def minio_process(clone):
    return next(process for process in clone.processes() if process.name() == "minio")


def test_demo_and_status_show_the_console(running, demo_output):
    address = f"http://localhost:{running.minio_console_port}"
    assert f"MinIO    {address}  (login and password: " in demo_output
    assert re.search(rf"^ minio +up +\d+ +{address} ", running.make("status"), re.MULTILINE)


def test_every_artifact_is_in_minio_and_equals_that_from_mlflow(running, client, artifacts, objects):
    run = client.search_runs([client.get_experiment_by_name("Housing").experiment_id], SCALER)[-1]
    folder = f"{run.info.experiment_id}/{run.info.run_id}/artifacts"
    held = objects()
    assert {f"{folder}/features.csv", f"{folder}/scaled_features.csv"} < held.keys()
    assert any(re.fullmatch(r"\d+/models/m-\w+/artifacts/MLmodel", key) for key in held)
    assert artifacts() == held
    assert not (running.folder / ".local/data/mlflow/artifacts").exists()


def test_everything_listens_on_loopback_only(running):
    listening = running.listening()
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}
    assert {str(address.port) for address in listening} == set(running.ports.values())


def test_keys_are_only_in_the_environment_of_minio_and_mlflow(running, keys):
    shown = "".join(" ".join(process.cmdline()) for process in running.processes())
    shown += "".join(log.read_text() for log in (running.folder / ".local/logs").iterdir())
    shown += (running.folder / ".local/supervisor.conf").read_text()
    assert ".local/minio server" in shown
    assert keys[1] not in shown
    holders = {
        process.environ().get("LOCAL_STACK_COMPONENT")
        for process in running.processes()
        if keys[1] in process.environ().values()
    }
    assert holders == {"minio", "mlflow"}


def test_minio_writes_nothing_outside_the_clone(running):
    baseline = Path.home().joinpath(".minio").exists()
    opened = {Path(file.path) for file in minio_process(running).open_files()}
    assert {file for file in opened if not file.is_relative_to(running.folder)} == set()
    assert (running.folder / ".local/minio-certificates").exists()
    assert Path.home().joinpath(".minio").exists() is baseline


def test_the_console_accepts_the_login_that_the_demo_shows(running, keys):
    login = {"accessKey": keys[0], "secretKey": keys[1]}
    console = f"http://localhost:{running.minio_console_port}/api/v1/login"
    assert requests.post(console, json=login, timeout=30).status_code == requests.codes.no_content


def test_the_console_shows_what_the_documentation_says(running: Clone, client, keys, browser: Browser):
    experiment_id = client.get_experiment_by_name("Housing").experiment_id
    run = client.search_runs([experiment_id], SCALER)[0]
    [model] = run.outputs.model_outputs
    page = browser.new_page(viewport=WINDOW, device_scale_factor=PIXELS, locale="en-US")
    page.goto(f"http://localhost:{running.minio_console_port}")
    page.get_by_placeholder("Username").fill(keys[0])
    page.get_by_placeholder("Password").fill(keys[1])
    page.get_by_role("button", name="Login").click()
    page.get_by_role("button", name="Acknowledge").click()
    for picture, folders, files in (
        ("minio-run", [run.info.run_id], ["features.csv", "scaled_features.csv"]),
        ("minio-model", ["models", model.model_id], ["MLmodel", "model.skops"]),
    ):
        page.get_by_text("mlflow", exact=True).first.click()
        for name in experiment_id, *folders, "artifacts":
            page.get_by_role("gridcell").get_by_text(name, exact=True).click()
        for name in files:
            expect(page.get_by_role("gridcell").get_by_text(name, exact=True)).to_be_visible(timeout=60_000)
        if SHOTS:
            take_picture(page, picture_file(picture), height=560)
    page.close()


def test_the_store_cannot_be_changed_while_the_stack_is_up(running):
    output = running.make("up", expect=2, MINIO="")
    assert "Already up, with artifacts in MinIO. To change that, run `make down` first." in output


@pytest.mark.fault(
    "The stack's MinIO is killed",
    sees="nothing; it is restarted",
    green="by itself",
)
def test_minio_restarts_when_it_is_killed(running, objects):
    baseline = objects()
    killed = minio_process(running)
    killed.kill()
    running.make("up")
    assert minio_process(running).pid != killed.pid
    assert objects() == baseline


def test_tasks_write_to_s3_directly_if_the_experiment_is_there(running, settings, client, artifacts, objects):
    """With the keys of the connection that ``mlflow_default`` refers to, and unchanged DAGs."""
    place = f"direct-{os.urandom(4).hex()}"
    experiment_id = client.get_experiment_by_name("Housing").experiment_id
    client.rename_experiment(experiment_id, f"Housing before {place}")
    experiment = client.create_experiment("Housing", artifact_location=f"s3://mlflow/{place}")
    settings.change("mlflow_default", conn_extra={"artifact_conn_id": "minio_default"})
    try:
        running.make("demo")
    finally:
        client.rename_experiment(experiment, f"Housing in {place}")
        client.rename_experiment(experiment_id, "Housing")
    (run,) = client.search_runs([experiment], SCALER)
    assert run.info.artifact_uri.startswith(f"s3://mlflow/{place}/")
    held = objects()
    written = {f"{place}/{run.info.run_id}/artifacts/{name}.csv" for name in ("features", "scaled_features")}
    assert written < held.keys()
    assert any(re.fullmatch(rf"{place}/models/m-\w+/artifacts/MLmodel", key) for key in held)
    assert artifacts() == held


def test_artifacts_are_kept_and_the_stack_does_not_start_without_minio(running, objects):
    held = objects()
    running.make("down")
    assert "Earlier artifacts are in MinIO" in running.make("up", expect=2, MINIO="")
    running.assert_nothing_is_left()
    running.make("up")
    assert objects() == held


def test_a_new_password_applies_at_the_next_up_to_the_same_artifacts(running, settings, objects):
    held = objects()
    settings.change("minio_default", conn_password="another-demo-secret")
    assert "The project has changed" in running.make("up")
    resource = boto3.resource(
        "s3",
        endpoint_url=f"http://127.0.0.1:{running.minio_port}",
        aws_access_key_id=settings["minio_default"]["conn_login"],
        aws_secret_access_key="another-demo-secret",
        region_name="us-east-1",
    )
    wait_until("MinIO answers", lambda: in_bucket(resource.Bucket("mlflow")) == held)
