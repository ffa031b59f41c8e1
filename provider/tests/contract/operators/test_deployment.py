"""Deployment operators and hook, with a deployment target from a plugin of MLflow."""

from __future__ import annotations

import json
import os
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import requests
from mlflow import MlflowException
from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

import local_deployment_target
from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.deployment import MLflowDeploymentHook, to_json
from mlflow_provider.operators.deployment import CreateDeploymentOperator, PredictOperator

FEATURES = [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]]  # as in conftest.py


@pytest.fixture(scope="module")
def deployment(target, mlflow_server, logged_model):
    """The result of creating a deployment, which is kept for the other tests."""
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


def http_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(str(status), response=response)


class TestCreateDeploymentOperator:
    def test_returns_the_targets_description(self, deployment, logged_model):
        assert deployment == {
            "name": "housing",
            "model_uri": logged_model.uri,
            "config": {"size": "small"},
        }

    def test_reports_the_targets_error(self, execute, target, deployment):
        with pytest.raises(
            MLflowProviderError, match=r"^Deploying models:/m-1 as 'housing' to 'local:.*already"
        ):
            execute(CreateDeploymentOperator, name="housing", model_uri="models:/m-1", target_uri=target)

    def test_may_skip_to_the_existing_deployment(self, execute, target, deployment, logged_model, logged):
        arguments = {"name": "housing", "model_uri": "models:/m-1", "target_uri": target}

        existing = execute(CreateDeploymentOperator, **arguments, if_exists="skip")

        assert (existing["name"], existing["model_uri"]) == ("housing", logged_model.uri)
        assert "Deployment 'housing' at local:tests is ready." in logged

    @pytest.mark.parametrize(
        ("error", "is_missing"),
        [
            (MlflowException('An error occurred: Could not find endpoint "x".'), True),  # SageMaker's
            (http_error(404), True),
            (MlflowException("the request timed out"), False),
            (MlflowException("no permission", error_code=PERMISSION_DENIED), False),
            (http_error(403), False),
        ],
    )
    def test_creates_none_while_the_target_does_not_say_that_it_is_missing(
        self, execute, target, logged_model, name, monkeypatch, error, is_missing
    ):
        client = local_deployment_target.LocalDeploymentClient
        monkeypatch.setattr(client, "get_deployment", Mock(side_effect=error))
        arguments = {"name": name, "model_uri": logged_model.uri, "target_uri": target}

        if is_missing:
            assert execute(CreateDeploymentOperator, **arguments, if_exists="skip")["name"] == name
        else:
            with pytest.raises(MLflowProviderError, match=f"^Looking for deployment '{name}' at 'local:"):
                execute(CreateDeploymentOperator, **arguments, if_exists="skip")

    def test_names_a_target_without_a_plugin(self, execute):
        with pytest.raises(MLflowProviderError, match="target 'moon:base': No plugin found"):
            execute(CreateDeploymentOperator, name="housing", model_uri="models:/m-1", target_uri="moon:base")


class TestPredictOperator:
    @pytest.mark.parametrize("inputs", [pd.DataFrame(FEATURES), {"inputs": FEATURES}], ids=["frame", "dict"])
    def test_returns_the_deployments_predictions(
        self, target, deployment, mlflow_default, logged_model, inputs, logged
    ):
        operator = PredictOperator(
            task_id="predict", deployment_name="{{ name }}", inputs=inputs, target_uri=target
        )
        operator.render_template_fields({"name": "housing"})

        assert json.loads(operator.execute({})) == {"predictions": pytest.approx(logged_model.predictions)}
        assert "Got predictions from deployment 'housing' at local:tests." in logged

    def test_reports_the_targets_error(self, execute, target):
        with pytest.raises(
            MLflowProviderError, match=r"deployment 'nowhere' at 'local:.*there is no nowhere"
        ):
            execute(PredictOperator, deployment_name="nowhere", inputs={}, target_uri=target)

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (PredictionsResponse({"predictions": [1.5]}), {"predictions": [1.5]}),
            ({"predictions": np.array([1.5, np.nan])}, {"predictions": [1.5, None]}),
            ([np.float32(1.5), float("inf")], [1.5, None]),
        ],
        ids=["MLflow's type", "array", "numbers"],
    )
    def test_every_answer_becomes_json(self, answer, expected):
        assert json.loads(to_json(answer)) == expected


class TestHook:
    def test_gives_mlflows_client_with_the_connection_for_each_call(
        self, target, mlflow_default, logged_model
    ):
        hook = MLflowDeploymentHook(mlflow_default, target)
        client = hook.get_conn()
        hook.create_deployment("for-a-while", logged_model.uri)

        assert isinstance(client, BaseDeploymentClient)
        assert client.target_uri == target
        assert "for-a-while" in [deployment["name"] for deployment in client.list_deployments()]
        client.update_deployment("for-a-while", config={"size": "large"})
        assert client.get_deployment("for-a-while")["config"] == {"size": "large"}
        client.delete_deployment("for-a-while")
        assert "for-a-while" not in [deployment["name"] for deployment in client.list_deployments()]

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
        baseline = dict(os.environ)

        with hook.tracking():
            assert os.environ.get("AWS_ACCESS_KEY_ID") == key
            assert os.environ.get("AWS_SECRET_ACCESS_KEY") == ("s3cret" if key else None)
            assert os.environ.get("AWS_DEFAULT_REGION") == ("eu-central-1" if key else None)
            assert os.environ.get("AWS_ENDPOINT_URL") == ("http://s3.example.com" if key else None)
            assert "MLFLOW_S3_ENDPOINT_URL" not in os.environ
        assert dict(os.environ) == baseline
