"""What the doctor says where workers write to a real S3 store themselves: MinIO."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

import pytest

from dev.tests.helpers.object_store import KEYS, REGION, Store
from mlflow_provider.doctor import examine
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.server import findings as causes


@pytest.fixture(scope="module")
def store(minio_program, tmp_path_factory):
    """The address of a MinIO with a bucket ``mlflow``."""
    if not minio_program:
        pytest.skip("No minio on PATH, and no Go to compile it; MINIO=/path/to/minio says where one is.")
    store = Store(minio_program, tmp_path_factory.mktemp("minio"))
    yield store.url
    store.kill()


@pytest.fixture
def found(mlflow_server, airflow_connection, store):
    """A function that examines an experiment in a bucket, and returns what fails, and why."""

    def examine_bucket(bucket="mlflow", login=KEYS[0], password=KEYS[1]) -> list[tuple[str, str]]:
        extra = {"endpoint_url": store, "region_name": REGION}
        airflow_connection("store", conn_type="aws", login=login, password=password, extra=extra)
        airflow_connection(host=mlflow_server.url, extra={"artifact_conn_id": "store"})
        experiment = {"name": uuid.uuid4().hex, "artifact_location": f"s3://{bucket}/housing"}
        MLflowClientHook().call("POST", "experiments/create", experiment)
        results = examine(experiment=experiment["name"])
        return [(result.check, result.sentence) for result in results if result.status == "failed"]

    return examine_bucket


@pytest.mark.parametrize(
    ("login", "password", "code"),
    [("nobody", KEYS[1], "InvalidAccessKeyId"), (KEYS[0], "another secret", "SignatureDoesNotMatch")],
)
def test_keys_that_are_not_the_stores(found, login, password, code):
    assert found(login=login, password=password) == [("artifact store", causes.WRONG_KEYS.format(code=code))]


def test_a_bucket_that_is_not_there(found):
    assert found("gone") == [("artifact store", causes.NO_BUCKET.format(bucket="gone"))]


def test_a_clock_that_is_an_hour_off(found, monkeypatch):
    ahead = datetime.now(timezone.utc) + timedelta(hours=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: ahead.replace(tzinfo=None))

    assert found() == [("artifact store", causes.CLOCK_SKEW)]


def test_the_worker_has_the_keys_and_the_server_has_none(found):
    """The artifact is in the bucket, but MLflow's pages do not show it."""
    [(check, sentence)] = found()

    assert check == "artifact"
    assert sentence.startswith("the artifact is in the store, but the server does not list it (")
