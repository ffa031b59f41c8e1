"""Databricks as its documentation describes it; never run against the real one."""

from __future__ import annotations

import mlflow
import pytest

from databricks_stand_in import TOKEN, run_databricks
from mlflow_provider.exceptions import MLflowAPIError, MLflowConfigurationError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators.registry import CopyModelVersionOperator, RegisterModelOperator
from mlflow_provider.server.connection import MLflowConnection


@pytest.fixture
def databricks():
    with run_databricks() as workspace:
        yield workspace


@pytest.fixture
def connected(databricks):
    """A function that returns a hook for the workspace, with this registry."""

    def hook(registry_uri: str | None = None) -> MLflowClientHook:
        connection = MLflowConnection(
            "databricks_default",
            databricks.url,
            is_databricks=True,  # a real one is known by its host name
            token=TOKEN,
            registry_uri=registry_uri,
        )
        return MLflowClientHook.for_connection(connection)

    return hook


def test_the_connection_test_reaches_it(connected, databricks):
    assert connected().test_connection() == (
        True,
        f"MLflow responds at {databricks.url} and accepts this login.",
    )


class TestExperiment:
    def test_has_an_absolute_path_for_a_name(self, connected, databricks):
        hook = connected()

        created = hook.get_or_create_experiment("/Shared/Housing")

        assert hook.get_or_create_experiment("/Shared/Housing") == created
        with hook.tracking() as client:
            assert client.create_experiment("/Shared/Other") != created

    def test_of_another_name_is_rejected_with_an_example(self, connected, databricks):
        with pytest.raises(MLflowAPIError, match=r"absolute path.*/Shared/Housing or /Users/") as raised:
            connected().get_or_create_experiment("Housing")

        assert raised.value.error_code == "INVALID_PARAMETER_VALUE"
        assert databricks.requests == []

    @pytest.mark.parametrize("max_results", [1, 3_000, 50_000])
    def test_searches_keep_to_the_limits(self, connected, max_results):
        hook = connected("databricks")

        assert hook.search_runs(["1"], max_results=max_results) == []
        assert hook.search("registered-models", max_results=max_results) == []


class TestRegistryOfTheWorkspace:
    def test_is_where_rest_and_the_package_find_what_the_other_created(self, connected):
        hook = connected("databricks")

        hook.create_registered_model("by REST")
        hook.client.create_registered_model("by the package")

        assert hook.call("GET", "registered-models/get", {"name": "by the package"})
        assert hook.client.get_registered_model("by REST").name == "by REST"


class TestUnityCatalog:
    @pytest.mark.parametrize("registry_uri", [None, "databricks-uc"])
    def test_is_rejected_by_rest_with_the_alternatives(self, connected, databricks, registry_uri):
        with pytest.raises(MLflowConfigurationError, match=r"in Unity Catalog.* use the mlflow package"):
            connected(registry_uri).create_registered_model("main.default.housing")

        assert databricks.requests == []

    @pytest.mark.parametrize(
        ("operator_class", "arguments"),
        [
            (RegisterModelOperator, {"model_uri": "models:/m-1", "name": "a.b.c"}),
            (RegisterModelOperator, {"model_uri": "models:/m-1", "name": "a.b.c", "if_exists": "new"}),
            (CopyModelVersionOperator, {"name": "a.b.c", "version": 1, "to_name": "a.b.d"}),
        ],
    )
    def test_gets_no_model_from_operators_that_could_not_read_it_back(
        self, connected, databricks, operator_class, arguments
    ):
        operator = operator_class(task_id="register", **arguments)
        operator.hook = connected()

        with pytest.raises(MLflowConfigurationError, match="in Unity Catalog"):
            operator.execute({})

        assert databricks.requests == []

    def test_is_where_the_package_registers(self, connected, databricks):
        with connected().tracking():
            assert mlflow.get_registry_uri() == "databricks-uc"
