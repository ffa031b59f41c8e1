"""The doctor's findings if workers write directly to a real S3 store: MinIO."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

import pytest

from dev.tests.helpers.object_store import KEYS, REGION, Store
from mlflow_provider.doctor import examine
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.server import findings


@pytest.fixture(scope="module")
def store(required_minio, tmp_path_factory):
    """The address of a MinIO with a bucket ``mlflow``."""
    store = Store(required_minio, tmp_path_factory.mktemp("minio"))
    yield store.url
    store.kill()


@pytest.fixture
def failures(mlflow_server, airflow_connection, store):
    """A function that examines an experiment in a bucket, and returns its failed checks."""

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
def test_wrong_keys_are_found(failures, login, password, code):
    rejected = findings.S3_KEYS_REJECTED.format(code=code)
    assert failures(login=login, password=password) == [("artifact store", str(rejected))]


def test_a_missing_bucket_is_found(failures):
    assert failures("gone") == [("artifact store", str(findings.BUCKET_NOT_FOUND.format(bucket="gone")))]


def test_a_clock_that_is_wrong_by_an_hour_is_found(failures, monkeypatch):
    ahead = datetime.now(timezone.utc) + timedelta(hours=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: ahead.replace(tzinfo=None))

    assert failures() == [("artifact store", str(findings.CLOCK_SKEW))]


def test_a_server_without_keys_is_found(failures):
    """The artifact is in the bucket, but MLflow's pages do not show it."""
    [(check, sentence)] = failures()

    assert check == "artifact"
    assert sentence.startswith("the artifact is in the store, but the server does not list it (")
