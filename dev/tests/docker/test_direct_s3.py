"""Tasks that write to S3 directly, with the keys of the connection ``minio_default``."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from rich.console import Console

from dev.docker.project import KEYS
from dev.tests.helpers.artifacts import in_bucket, in_mlflow
from local_stack import demo

CONNECTION = "/api/v2/connections/mlflow_default"


def change_extra(project, extra: dict[str, object]) -> None:
    """Change Extra of ``mlflow_default``, as its form does."""
    connection = {"connection_id": "mlflow_default", "conn_type": "mlflow", "extra": json.dumps(extra)}
    project.airflow_api().call("PATCH", CONNECTION, params={"update_mask": "extra"}, json=connection)


@pytest.fixture(autouse=True)
def _keys(started, monkeypatch):
    """The S3 keys in this process, which reads artifacts directly."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{started.ports['MINIO_PORT']}")


@pytest.fixture
def folder(started):
    """The folder in the bucket for a new experiment Housing, which is removed afterwards."""
    client = MlflowClient(f"http://127.0.0.1:{started.ports['MLFLOW_PORT']}")
    if existing := client.get_experiment_by_name("Housing"):
        client.rename_experiment(existing.experiment_id, f"Housing {uuid4()}")
    folder = f"direct-{uuid4()}"
    experiment = client.create_experiment("Housing", artifact_location=f"s3://mlflow/{folder}")
    change_extra(started, {"artifact_conn_id": "minio_default"})
    yield folder
    change_extra(started, {})
    client.rename_experiment(experiment, f"Housing {uuid4()}")
    client.delete_experiment(experiment)
    started.bucket.objects.filter(Prefix=folder).delete()


def test_the_lessons_run_green_and_no_artifact_passes_through_mlflow(
    started, airflow, mlflow, folder, tmp_path
):
    length = len(started.log("mlflow"))
    demo.run_lessons(Console(), airflow, started.local_ports)
    objects = in_bucket(started.bucket, folder)
    assert {"features.csv", "model.skops", "MLmodel"} <= {key.rpartition("/")[2] for key in objects}
    assert objects == in_mlflow(mlflow, tmp_path, "Housing")
    requests = started.log("mlflow")[length:]
    assert "/mlflow/runs/create" in requests
    assert "/mlflow-artifacts/" not in requests


def test_the_keys_come_from_the_connection(started, folder):
    assert "AWS_" not in started.airflow("env")
    wrong = {"conn_type": "aws", "login": "mlflow-demo", "password": "wrong"}
    wrong["extra"] = {"endpoint_url": "http://minio:9000", "region_name": "us-east-1"}
    output = started.run_task(AIRFLOW_CONN_MINIO_DEFAULT=json.dumps(wrong))
    assert "SignatureDoesNotMatch" in output
