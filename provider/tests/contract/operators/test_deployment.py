"""Deployment operators and hook, against real model servers that a plugin of MLflow starts."""

from __future__ import annotations

import json
import os

import pandas as pd
import pytest

import local_deployment_target
from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.deployment import MLflowDeploymentHook
from mlflow_provider.operators.deployment import CreateDeploymentOperator, PredictOperator

FEATURES = [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]]  # what conftest.py predicts for
PLUGIN = local_deployment_target.__name__


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """The URI of a target that MLflow finds as it finds any: by the entry point of an installed package."""
    packages = tmp_path_factory.mktemp("packages")
    info = packages / f"{PLUGIN}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mlflow.deployments]\nlocal = {PLUGIN}\n")
    uri = "local:tests"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(packages)
        from mlflow.deployments import get_deploy_client
        from mlflow.deployments.interface import plugin_store

        plugin_store.register_entrypoints()  # MLflow does when it is imported, which may be long ago
        yield uri
        client = get_deploy_client(uri)
        for deployment in client.list_deployments():
            client.delete_deployment(deployment["name"])
        del plugin_store.registry["local"]


@pytest.fixture(scope="module")
def deployment(target, mlflow_server, logged_model):
    """What creating a deployment returned. It stays for the other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "mlflow", "host": mlflow_server.url})
        )
        operator = CreateDeploymentOperator(
            task_id="deploy",
            name="housing",
            model_uri=logged_model.uri,
            config={"size": "small"},
            target_uri=target,
        )
        return operator.execute({})


class TestCreateDeploymentOperator:
    def test_returns_what_the_target_says(self, deployment, logged_model):
        assert deployment == {
            "name": "housing",
            "model_uri": logged_model.uri,
            "config": {"size": "small"},
            "url": deployment["url"],
        }
        assert deployment["url"].startswith("http://127.0.0.1:")

    def test_says_what_the_target_refuses(self, execute, target, deployment):
        with pytest.raises(
            MLflowProviderError, match=r"^Deploying models:/m-1 as 'housing' to 'local:.*already"
        ):
            execute(CreateDeploymentOperator, name="housing", model_uri="models:/m-1", target_uri=target)

    def test_returns_the_one_that_is_there_where_it_may(
        self, execute, target, deployment, logged_model, logged
    ):
        found = execute(
            CreateDeploymentOperator,
            name="housing",
            model_uri="models:/m-1",
            target_uri=target,
            if_exists="skip",
        )

        assert (found["name"], found["model_uri"]) == ("housing", logged_model.uri)
        assert "Deployment 'housing' at local:tests is ready." in logged

    def test_names_a_target_that_no_plugin_is_for(self, execute):
        with pytest.raises(MLflowProviderError, match="target 'moon:base': No plugin found"):
            execute(CreateDeploymentOperator, name="housing", model_uri="models:/m-1", target_uri="moon:base")


class TestPredictOperator:
    @pytest.mark.parametrize("inputs", [pd.DataFrame(FEATURES), {"inputs": FEATURES}], ids=["frame", "dict"])
    def test_returns_the_servers_predictions(self, execute, target, deployment, logged_model, inputs, logged):
        answer = execute(PredictOperator, deployment_name="housing", inputs=inputs, target_uri=target)

        assert json.loads(answer) == {"predictions": pytest.approx(logged_model.predictions)}
        assert "Got predictions from deployment 'housing' at local:tests." in logged

    def test_a_frame_survives_templating(self, target, deployment, mlflow_default, logged_model):
        operator = PredictOperator(
            task_id="predict",
            deployment_name="{{ name }}",
            inputs=pd.DataFrame(FEATURES),
            target_uri=target,
        )
        operator.render_template_fields({"name": "housing"})

        assert json.loads(operator.execute({}))["predictions"] == pytest.approx(logged_model.predictions)

    def test_says_what_the_target_refuses(self, execute, target):
        with pytest.raises(
            MLflowProviderError, match=r"deployment 'nowhere' at 'local:.*there is no nowhere"
        ):
            execute(PredictOperator, deployment_name="nowhere", inputs={}, target_uri=target)


class TestHook:
    def test_hands_each_call_of_the_client_on(self, target, mlflow_default, logged_model):
        hook = MLflowDeploymentHook(mlflow_default, target)
        client = hook.get_conn()
        hook.create_deployment("for-a-while", logged_model.uri)

        assert "for-a-while" in [found["name"] for found in client.list_deployments()]
        client.update_deployment("for-a-while", config={"size": "large"})
        assert client.get_deployment("for-a-while")["config"] == {"size": "large"}
        client.delete_deployment("for-a-while")
        assert "for-a-while" not in [found["name"] for found in client.list_deployments()]

    def test_gives_mlflows_own_client(self, target, mlflow_default):
        from mlflow.deployments import BaseDeploymentClient

        client = MLflowDeploymentHook(mlflow_default, target).get_conn()

        assert isinstance(client, BaseDeploymentClient)
        assert client.target_uri == target

    @pytest.mark.parametrize(
        ("conn_type", "key"), [("aws", "AKIA"), ("http", None), (None, None)], ids=["aws", "other", "none"]
    )
    def test_target_gets_the_keys_of_an_aws_connection(
        self, target, mlflow_default, airflow_connection, conn_type, key
    ):
        target_conn_id = None
        if conn_type:
            fields = {"conn_type": conn_type, "login": "AKIA", "password": "s3cret", "host": "s3.example.com"}
            target_conn_id = airflow_connection("target", **fields, extra='{"region_name": "eu-central-1"}')
        hook = MLflowDeploymentHook(mlflow_default, target, target_conn_id)
        before = dict(os.environ)

        with hook.tracking():
            assert os.environ.get("AWS_ACCESS_KEY_ID") == key
            assert os.environ.get("AWS_SECRET_ACCESS_KEY") == ("s3cret" if key else None)
            assert os.environ.get("AWS_DEFAULT_REGION") == ("eu-central-1" if key else None)
            assert "MLFLOW_S3_ENDPOINT_URL" not in os.environ
        assert dict(os.environ) == before
