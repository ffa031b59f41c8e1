"""Tasks that write to S3 themselves, with the keys of the connection ``minio_default``."""

from __future__ import annotations

import json

import pytest
from mlflow import MlflowClient
from rich.console import Console

from local import demo
from tests.docker.project import KEYS, listing
from tests.helpers.artifacts import in_bucket, in_mlflow

WRONG_KEYS = """\
services:
  mlflow:
    environment: { AWS_ACCESS_KEY_ID: nobody, AWS_SECRET_ACCESS_KEY: nothing }
"""
CONNECTION = "/api/v2/connections/mlflow_default"


def change_extra(project, extra: str) -> None:
    """Change Extra of ``mlflow_default``, as its form does."""
    connection = {"connection_id": "mlflow_default", "conn_type": "mlflow", "extra": extra}
    project.airflow_api()._call("PATCH", CONNECTION, params={"update_mask": "extra"}, json=connection)


@pytest.fixture(scope="module", autouse=True)
def _housing_in_s3(started, tmp_path_factory):
    """An experiment in S3, of a server whose own keys are wrong, so that nothing could pass through it."""
    wrong_keys = tmp_path_factory.mktemp("compose") / "wrong-keys.yaml"
    wrong_keys.write_text(WRONG_KEYS)
    started.up(more=wrong_keys)
    client = MlflowClient(f"http://127.0.0.1:{started.ports['MLFLOW_PORT']}")
    before = client.get_experiment_by_name("Housing")
    if before:
        client.rename_experiment(before.experiment_id, "Housing before")
    experiment = client.create_experiment("Housing", artifact_location="s3://mlflow/direct")
    extra = started.airflow_api()._call("GET", CONNECTION)["extra"]
    change_extra(started, json.dumps(json.loads(extra) | {"artifact_conn_id": "minio_default"}))
    yield
    client.rename_experiment(experiment, "Housing in S3")
    if before:
        client.rename_experiment(before.experiment_id, "Housing")
    change_extra(started, extra)
    started.up()


@pytest.fixture(autouse=True)
def _keys(started, monkeypatch):
    """The S3 keys in this process, as those of somebody who reads artifacts past the MLflow server."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{started.ports['MINIO_PORT']}")


def test_the_same_dags_run_green_and_every_artifact_is_where_they_wrote_it(started, mlflow, tmp_path):
    demo.run(Console(), started.local_ports)
    objects = in_bucket(started.bucket, "direct/")
    assert {"features.csv", "model.skops", "MLmodel"} <= {key.rpartition("/")[2] for key in objects}
    assert objects == in_mlflow(mlflow, tmp_path, "Housing")
    print("In MinIO:", listing(objects), sep="\n")


def test_the_keys_come_from_the_connection(started):
    assert "AWS_" not in started.airflow("env")
    wrong = {"conn_type": "aws", "login": "mlflow-demo", "password": "wrong"}
    wrong["extra"] = {"endpoint_url": "http://minio:9000", "region_name": "us-east-1"}
    said = started.run_task(AIRFLOW_CONN_MINIO_DEFAULT=json.dumps(wrong))
    assert "SignatureDoesNotMatch" in said
    assert "new_state=success" in started.run_task()
