"""REST and the ``mlflow`` package use the same workspace and the same registry."""

from __future__ import annotations

import mlflow
import pytest
import requests

from mlflow_provider.exceptions import MLflowConfigurationError, MLflowNotFoundError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.sensors.registry import MLflowModelVersionSensor
from mlflow_servers import run_mlflow_server


@pytest.fixture(scope="module")
def server_with_workspaces(tmp_path_factory):
    """A server with the workspace ``team-a`` in addition to its default one."""
    with run_mlflow_server(tmp_path_factory.mktemp("mlflow"), None, "--enable-workspaces") as server:
        # As MLflow's client does from 3.10 on.
        assert requests.post(
            f"{server.url}/api/3.0/mlflow/workspaces", json={"name": "team-a"}, timeout=60
        ).ok
        yield server


class TestWorkspace:
    @pytest.fixture(autouse=True)
    def workspaces(self):
        """MLflow's module for workspaces, which older ones do not have."""
        return pytest.importorskip("mlflow.utils.workspace_context", reason="MLflow before 3.10")

    @pytest.fixture
    def team(self, server_with_workspaces, airflow_connection):
        """A hook for the workspace of a team."""
        url = server_with_workspaces.url
        return MLflowClientHook(
            mlflow_conn_id=airflow_connection("mlflow_team", host=url, extra={"workspace": "team-a"})
        )

    @pytest.fixture
    def default(self, server_with_workspaces, airflow_connection):
        """A hook for the default workspace of the same server."""
        return MLflowClientHook(
            mlflow_conn_id=airflow_connection("mlflow_default", host=server_with_workspaces.url)
        )

    def test_is_where_rest_and_the_package_find_what_the_other_created(self, team, name):
        created = team.get_or_create_experiment(name)
        with team.tracking():
            assert mlflow.set_experiment(name).experiment_id == created
            with mlflow.start_run() as run:
                mlflow.log_dict({"folds": 5}, "folds.json")
            assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/folds.json") == {"folds": 5}
        team.client.create_registered_model(name)

        assert [found["info"]["run_id"] for found in team.search_runs([created])] == [run.info.run_id]
        assert team.call("GET", "registered-models/get", {"name": name})

    def test_is_invisible_to_other_workspaces(self, team, default, name):
        team.create_registered_model(name)

        assert default.search("registered-models", f"name = '{name}'") == []
        with default.tracking() as client:
            assert client.search_registered_models(f"name = '{name}'") == []

    def test_that_was_set_before_a_block_is_restored_after_it_and_not_used_in_it(
        self, team, default, name, workspaces
    ):
        with default.tracking():
            mlflow.set_workspace("team-a")
            with default.tracking() as client:
                client.create_registered_model(name)
            assert workspaces.get_request_workspace() == "team-a"

        assert default.call("GET", "registered-models/get", {"name": name})

    @pytest.mark.parametrize(
        ("server", "problem"),
        [
            ("server_with_workspaces", "Workspace 'team-b' not found"),
            ("mlflow_server", "workspaces are not enabled on this server"),
        ],
    )
    def test_that_the_server_does_not_know_is_an_error_of_the_connection(
        self, request, airflow_connection, name, server, problem
    ):
        airflow_connection(host=request.getfixturevalue(server).url, extra={"workspace": "team-b"})
        sentence = f"ield Extra, workspace: {problem}; correct or remove it."

        assert MLflowClientHook().test_connection() == (False, f"F{sentence}")
        with pytest.raises(MLflowConfigurationError, match=f"'mlflow_default', f{sentence}"):
            MLflowModelVersionSensor(task_id="wait", name=name).poke({})

    def test_is_rejected_if_the_package_is_too_old(self, team, monkeypatch):
        monkeypatch.delattr("mlflow.set_workspace")

        with pytest.raises(MLflowConfigurationError, match="needs mlflow"), team.tracking():
            pass


class TestRegistry:
    @pytest.fixture
    def hook(self, mlflow_server, server_with_workspaces, airflow_connection):
        """A hook for a server whose models are registered at another."""
        extra = {"registry_uri": server_with_workspaces.url}
        return MLflowClientHook(
            mlflow_conn_id=airflow_connection("mlflow_default", **mlflow_server.connection, extra=extra)
        )

    def test_is_where_rest_and_the_package_find_what_the_other_created(
        self, hook, name, server_with_workspaces
    ):
        hook.create_registered_model(name)
        with hook.tracking() as client:
            client.set_registered_model_tag(name, "data", "housing")

        response = MLflowClientHook("GET").run("api/2.0/mlflow/registered-models/get", None, {"name": name})
        assert response.json()["registered_model"]["tags"] == [{"key": "data", "value": "housing"}]
        assert response.url.startswith(server_with_workspaces.url)

    def test_is_named_in_its_errors(self, hook, name, server_with_workspaces):
        with pytest.raises(MLflowNotFoundError, match=server_with_workspaces.url):
            hook.call("GET", "registered-models/get", {"name": name})

    def test_is_not_where_runs_are(self, hook, name, mlflow_server, airflow_connection):
        experiment_id = hook.get_or_create_experiment(name)
        airflow_connection(**mlflow_server.connection)

        assert MLflowClientHook().get_or_create_experiment(name) == experiment_id
        assert MLflowClientHook().search("registered-models", f"name = '{name}'") == []
