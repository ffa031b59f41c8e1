"""Databricks as its documentation describes it; never run against the real one.

docs/how-to/databricks.md in the repository has the same operators.
"""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.utils import rest_utils

from databricks_stand_in import CLIENT_ID, CLIENT_SECRET
from login_users import USERS
from mlflow_provider.doctor import examine
from mlflow_provider.exceptions import MLflowAPIError, MLflowConfigurationError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators.deployment import CreateDeploymentOperator, PredictOperator
from mlflow_provider.operators.experiment import GetOrCreateExperimentOperator
from mlflow_provider.operators.promotion import PromoteModelVersionOperator
from mlflow_provider.operators.pyfunc import ModelLoadAndPredictOperator
from mlflow_provider.operators.registry import (
    CopyModelVersionOperator,
    CreateModelVersionOperator,
    CreateRegisteredModelOperator,
    DeleteModelVersionOperator,
    DeleteRegisteredModelAliasOperator,
    DeleteRegisteredModelOperator,
    GetLatestModelVersionsOperator,
    GetModelVersionByAliasOperator,
    GetModelVersionOperator,
    GetRegisteredModelOperator,
    RegisterModelOperator,
    SearchModelVersionsOperator,
    SearchRegisteredModelsOperator,
    SetModelVersionTagOperator,
    SetRegisteredModelAliasOperator,
    SetRegisteredModelTagOperator,
    TransitionModelVersionStageOperator,
    UpdateModelVersionOperator,
    UpdateRegisteredModelOperator,
)
from mlflow_provider.sensors.registry import MLflowModelVersionSensor
from mlflow_provider.server import limits

Operators = list[tuple[type, dict[str, Any]]]


def operators_that_run(name: str, model_uri: str) -> Operators:
    """Return the operators in the order in which they run, each with arguments."""
    model, version_1, version_2 = {"name": name}, {"name": name, "version": 1}, {"name": name, "version": 2}
    return [
        (GetOrCreateExperimentOperator, {"name": f"/Shared/{name}"}),
        (CreateRegisteredModelOperator, {**model, "tags": {"data": "housing"}}),
        (CreateRegisteredModelOperator, {**model, "if_exists": "skip"}),
        (RegisterModelOperator, {**model, "model_uri": model_uri}),
        (RegisterModelOperator, {**model, "model_uri": model_uri}),  # finds version 1
        (CreateModelVersionOperator, {**model, "source": model_uri}),
        (CopyModelVersionOperator, {**version_1, "to_name": f"{name}-copy"}),
        (GetModelVersionOperator, version_2),
        (SearchModelVersionsOperator, {"filter_string": f"name = '{name}'"}),
        (UpdateModelVersionOperator, {**version_1, "description": "Linear"}),
        (SetModelVersionTagOperator, {**version_1, "key": "dag", "value": "housing"}),
        (TransitionModelVersionStageOperator, {**version_1, "stage": "Production"}),
        (GetLatestModelVersionsOperator, model),
        (MLflowModelVersionSensor, {**model, "after_version": "1"}),
        (SetRegisteredModelTagOperator, {**model, "key": "team", "value": "housing"}),
        (UpdateRegisteredModelOperator, {**model, "description": "Prices"}),
        (GetRegisteredModelOperator, model),
        (SearchRegisteredModelsOperator, {"filter_string": f"name = '{name}'"}),
        (ModelLoadAndPredictOperator, {"model_uri": f"models:/{name}/1", "data": [[0.0, 1.0]]}),
        (
            PredictOperator,
            {
                "target_uri": "databricks",
                "deployment_name": "",
                "endpoint": "housing",
                "inputs": {"dataframe_records": [{"area": 1000}]},
            },
        ),
        (DeleteModelVersionOperator, version_2),
        (DeleteRegisteredModelOperator, model),
    ]


def operators_that_cannot_run(name: str, model_uri: str) -> Operators:
    alias = {"name": name, "alias": "champion"}
    return [
        (SetRegisteredModelAliasOperator, {**alias, "version": 1}),
        (GetModelVersionByAliasOperator, alias),
        (DeleteRegisteredModelAliasOperator, alias),
        (RegisterModelOperator, {**alias, "model_uri": model_uri}),
        (MLflowModelVersionSensor, alias),
        (
            PromoteModelVersionOperator,
            {"name": name, "version": 1, "metric": "rmse", "greater_is_better": False},
        ),
        (
            CreateDeploymentOperator,
            {"target_uri": "databricks", "name": name, "model_uri": model_uri, "if_exists": "skip"},
        ),
    ]


@pytest.fixture
def mlflow_default(databricks, airflow_connection):
    """The connection for the fixtures of the contract tests: the workspace with its own registry."""
    return airflow_connection(**databricks.connection)


@pytest.fixture
def model_uri(hook, log_model, name):
    return log_model(hook.connection, f"/Shared/{name}").uri


@pytest.fixture
def unity_catalog(databricks, airflow_connection):
    """A hook for the workspace, with its default registry."""
    airflow_connection(**{**databricks.connection, "extra": {}})
    return MLflowClientHook()


def test_the_connection_test_reaches_it(hook):
    assert hook.test_connection() == (
        True,
        f"MLflow responds at {hook.connection.url} and accepts this login.",
    )


def test_the_doctor_finds_nothing_wrong(hook, monkeypatch):
    monkeypatch.setattr(limits, "INTERACTIVE_TIMEOUT", 120.0)

    assert [result.sentence for result in examine() if result.status == "failed"] == []


class TestExperiment:
    def test_has_an_absolute_path_for_a_name(self, hook, name):
        created = hook.get_or_create_experiment(f"/Shared/{name}")

        assert hook.get_or_create_experiment(f"/Shared/{name}") == created

    def test_of_another_name_is_rejected_with_an_example(self, hook, databricks):
        with pytest.raises(MLflowAPIError, match=r"absolute path.*/Shared/Housing or /Users/") as raised:
            hook.get_or_create_experiment("Housing")

        assert raised.value.error_code == "INVALID_PARAMETER_VALUE"
        assert databricks.requests == []

    @pytest.mark.parametrize("max_results", [1, 3_000, 50_000])
    def test_searches_keep_to_the_limits(self, hook, max_results):
        assert hook.search_runs(["0"], "attributes.run_name = 'none'", max_results=max_results) == []
        assert hook.search("registered-models", "name = 'none'", max_results=max_results) == []


class TestRegistryOfTheWorkspace:
    def test_is_where_operators_run(self, execute, hook, name, model_uri):
        results = [
            execute(operator_class, **arguments)
            for operator_class, arguments in operators_that_run(name, model_uri)
        ]

        versions = [each["model_version"] for each in results[3:7]]
        assert [version["version"] for version in versions] == ["1", "1", "2", "1"]
        assert {version["status"] for version in versions} == {"READY"}
        assert hook.get_model_version(f"{name}-copy", 1)

    @pytest.mark.parametrize("index", range(len(operators_that_cannot_run("", ""))))
    def test_lacks_what_other_operators_need(self, execute, hook, name, index):
        operator_class, arguments = operators_that_cannot_run(name, "models:/m-1")[index]
        is_deployment = operator_class is CreateDeploymentOperator
        hook.create_registered_model(name)
        hook.call("POST", "model-versions/create", {"name": name, "source": "dbfs:/models/1"})

        with pytest.raises(NotImplementedError if is_deployment else MLflowConfigurationError):
            execute(operator_class, **arguments)

        assert len(hook.search("model-versions", f"name = '{name}'")) == 1

    def test_is_where_rest_and_the_package_find_what_the_other_created(self, hook, name):
        hook.create_registered_model(f"{name} by REST")
        hook.client.create_registered_model(f"{name} by the package")

        assert hook.call("GET", "registered-models/get", {"name": f"{name} by the package"})
        assert hook.client.get_registered_model(f"{name} by REST").name == f"{name} by REST"


class TestUnityCatalog:
    def test_is_rejected_by_rest_with_the_alternatives(self, unity_catalog, databricks):
        with pytest.raises(MLflowConfigurationError, match=r"in Unity Catalog.* use the mlflow package"):
            unity_catalog.create_registered_model("main.default.housing")

        assert databricks.requests == []

    def test_gets_nothing_from_operators(self, execute, name, model_uri, databricks, unity_catalog):
        need_none = (GetOrCreateExperimentOperator, ModelLoadAndPredictOperator, PredictOperator)
        need_it = operators_that_run(name, model_uri) + operators_that_cannot_run(name, model_uri)
        databricks.requests.clear()

        for operator_class, arguments in need_it:
            if operator_class not in (*need_none, CreateDeploymentOperator):
                with pytest.raises(MLflowConfigurationError, match="in Unity Catalog"):
                    execute(operator_class, **arguments)

        assert databricks.requests == []
        for operator_class, arguments in need_it:
            if operator_class in need_none:
                logged = {"model_uri": model_uri} if operator_class is ModelLoadAndPredictOperator else {}
                assert execute(operator_class, **{**arguments, **logged})


class TestServicePrincipal:
    @pytest.fixture
    def connection(self, databricks):
        databricks.token = None  # no personal access token is accepted
        rest_utils.get_workspace_client.cache_clear()
        return databricks.connection | {"login": CLIENT_ID, "password": CLIENT_SECRET}

    @pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
    def test_needs_client_id_and_secret_alone(self, connection, airflow_connection, name, user):
        airflow_connection(**connection)

        user(f"/Shared/{name}")

    def test_creates_a_registered_model_in_unity_catalog(self, connection, airflow_connection, databricks):
        airflow_connection(**connection | {"extra": {}})

        with MLflowClientHook().tracking() as client:
            assert client.create_registered_model("main.default.housing").name == "main.default.housing"

        assert "POST unity-catalog/registered-models/create" in databricks.requests
