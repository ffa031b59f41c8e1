"""MLflow's Python package uses the connection's server, and the process is left as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import fluent

from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.hooks.deployment import MLflowDeploymentHook
from mlflow_servers import Answer


@pytest.fixture
def hook(mlflow_default):
    return MLflowBaseHook()


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def test_models_and_artifacts_of_a_block_go_through_the_server_and_are_loaded_in_the_next(
    hook, logged_model, predict, mlflow_server
):
    assert predict(hook.connection, logged_model.run_uri) == pytest.approx(logged_model.predictions)
    assert predict(hook.connection, logged_model.uri) == pytest.approx(logged_model.predictions)
    with hook.tracking():
        run = mlflow.get_run(logged_model.run_id)
        folds = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/plan/folds.json")

    assert folds == {"folds": 5}
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    stored = [path.name for path in (mlflow_server.folder / "artifacts").rglob("*") if path.is_file()]
    assert {"folds.json", "MLmodel"} <= set(stored)


LOG_TRACES = """
import os
import mlflow
from mlflow_provider.hooks.base import MLflowBaseHook

with MLflowBaseHook().tracking():
    mlflow.set_experiment({name!r})
    for _ in range(20):
        with mlflow.start_span("predict"), mlflow.start_span("load"):
            pass
os._exit(0)  # as Airflow ends the process of a task
"""
READ_TRACES = """
from mlflow_provider.hooks.base import MLflowBaseHook

with MLflowBaseHook().tracking() as client:
    experiment_id = client.get_experiment_by_name({name!r}).experiment_id
    for trace in client.search_traces([experiment_id]):
        print("trace:", *sorted(span.name for span in trace.data.spans))
"""


@pytest.mark.skipif(mlflow.__version__.startswith("3.0."), reason="MLflow 3.0 loses spans on a newer server")
def test_traces_of_a_block_arrive_with_their_spans(airflow_connection, mlflow_auth_server, name):
    airflow_connection(**mlflow_auth_server.connection)
    subprocess.run([sys.executable, "-c", LOG_TRACES.format(name=name)], check=True)
    reader = subprocess.run(
        [sys.executable, "-c", READ_TRACES.format(name=name)], check=True, stdout=subprocess.PIPE, text=True
    )

    lines = [line for line in reader.stdout.splitlines() if line.startswith("trace:")]
    assert lines == ["trace: load predict"] * 20


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_experiment_and_run_of_a_block_end_with_it(hook, name, error):
    baseline = variables(), fluent._active_experiment_id

    try:
        with hook.tracking():
            mlflow.set_experiment(name)
            assert "MLFLOW_EXPERIMENT_ID" in os.environ
            with mlflow.start_run():
                mlflow.log_param("alpha", 0.1)
                if error:
                    raise error
    except RuntimeError:
        pass

    assert (variables(), fluent._active_experiment_id) == baseline
    assert mlflow.active_run() is None


def test_a_run_id_in_the_workers_environment_is_used_and_stays_there(hook, monkeypatch, logged_model):
    # start_run deletes the variable, so that a second block would start a run of its own.
    monkeypatch.setenv("MLFLOW_RUN_ID", logged_model.run_id)

    for _ in range(2):
        with hook.tracking(), mlflow.start_run() as run:
            assert run.info.run_id == logged_model.run_id

        assert os.environ["MLFLOW_RUN_ID"] == logged_model.run_id


def test_an_experiment_set_outside_the_block_is_not_used_inside(hook, monkeypatch, name):
    monkeypatch.setattr(fluent, "_active_experiment_id", "424242")

    with hook.tracking(), mlflow.start_run() as run:
        assert run.info.experiment_id == "0"

    assert fluent._active_experiment_id == "424242"


class TestArtifactStores:
    """MLflow caches its S3 client by endpoint, and boto3 caches the first keys of the environment."""

    EMPTY_BUCKET = Answer(body="<ListBucketResult/>")

    @pytest.fixture
    def store(self, false_server):
        return false_server(self.EMPTY_BUCKET)

    @pytest.fixture
    def hook_with_key(self, store, airflow_connection):
        """A function that returns a hook with this access key for the store."""

        def hook(key: str) -> MLflowBaseHook:
            keys = {"aws_access_key_id": key, "aws_secret_access_key": "s3cret"}
            extra = {"endpoint_url": store.url, "region_name": "eu-central-1", **keys}
            artifact_conn_id = airflow_connection(f"store_{key}", conn_type="aws", extra=extra)
            return MLflowBaseHook(
                airflow_connection(
                    f"mlflow_{key}", host="mlflow", extra={"artifact_conn_id": artifact_conn_id}
                )
            )

        return hook

    @pytest.fixture
    def access_keys(self, store):
        """A function that returns the access key of each request to the store."""

        def keys() -> list[str]:
            return [
                re.findall(r"Credential=(\w+)/", request["Authorization"])[0] for request in store.requests
            ]

        return keys

    def test_of_nested_and_consecutive_blocks_each_get_their_own_key(
        self, hook_with_key, access_keys, store, monkeypatch
    ):
        def look() -> None:
            get_artifact_repository("s3://bucket/housing").list_artifacts()

        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "WORKER")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", store.url)
        look()
        with hook_with_key("ADA").tracking():
            look()
            with hook_with_key("EVE").tracking():
                look()
            look()
        with hook_with_key("EVE").tracking():
            look()
        look()

        assert access_keys() == ["WORKER", "ADA", "EVE", "ADA", "EVE", "WORKER"]

    def test_of_a_deployment_target_use_its_own_key(self, hook_with_key, access_keys, airflow_connection):
        for key in ("ADA", "EVE"):
            target = airflow_connection(f"target_{key}", conn_type="aws", login=key, password="s3cret")
            mlflow_conn_id = hook_with_key("STORE").mlflow_conn_id
            with MLflowDeploymentHook(mlflow_conn_id, "sagemaker", target).tracking():
                get_artifact_repository("s3://bucket/housing").list_artifacts()

        assert access_keys() == ["ADA", "EVE"]


def test_client_works_outside_a_block_raises_mlflows_own_errors_and_changes_nothing(hook, logged_model, name):
    baseline = variables()

    run = hook.client.get_run(logged_model.run_id)
    with pytest.raises(MlflowException) as raised:
        hook.client.get_registered_model(name)

    assert run.data.metrics == {"rmse": 0.5}
    assert raised.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert hook.get_conn() is hook.client
    assert variables() == baseline


def test_headers_of_an_http_connection_reach_the_server_also_from_a_process_that_the_block_starts(
    false_server, airflow_connection
):
    server = false_server(Answer(body="{}"))
    airflow_connection(conn_type="http", host=server.url, extra={"X-Team": "housing"})

    with MLflowBaseHook().tracking() as client:
        client.search_experiments()
        subprocess.run([sys.executable, "-c", "import mlflow; mlflow.search_experiments()"], check=True)
    mlflow.MlflowClient(server.url).search_experiments()

    assert [headers.get("X-Team") for headers in server.requests] == ["housing", "housing", None]
