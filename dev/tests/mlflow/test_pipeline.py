"""What the pipeline refuses, and does when asked again, by ``dag.test()`` against a real MLflow server.

dev/tests/stack/test_pipeline.py looks at the whole, chained by its assets.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import ParamValidationError

from mlflow_provider.exceptions import MLflowNotFoundError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.process.mlflow_state import without_active_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

DAGS = Path(__file__).resolve().parents[3] / "dags"
MODEL = "Housing pipeline"
Run = Callable[..., dict[str, str]]


@pytest.fixture
def run(airflow_database: None, mlflow_server: Any, airflow_connection: Callable[..., str]) -> Run:
    """A function that runs a DAG with params, and returns the states of its tasks."""
    from airflow.dag_processing.dagbag import DagBag

    airflow_connection(**mlflow_server.connection)
    dags = DagBag(DAGS, bundle_path=DAGS, bundle_name="dags-folder").dags

    def run_dag(dag_id: str, **params: Any) -> dict[str, str]:
        with without_active_run():
            dag_run = dags[dag_id].test(run_conf=params)
        return {task.task_id: str(task.state) for task in dag_run.get_task_instances()}

    return run_dag


@pytest.fixture
def client(run: Run) -> MlflowClient:
    """MLflow's client; there is no registered model yet."""
    hook = MLflowClientHook()
    with suppress(MLflowNotFoundError):  # what an earlier test left
        hook.call("DELETE", "registered-models/delete", {"name": MODEL})
    return hook.client


@pytest.fixture
def two_versions(client: MlflowClient) -> MlflowClient:
    """Version 2 is the champion, and version 1 was it before."""
    client.create_registered_model(MODEL)
    for alias in ("previous", "champion"):
        version = client.create_model_version(MODEL, source="s3://bucket/housing").version
        client.set_registered_model_alias(MODEL, alias, version)
    return client


def test_an_empty_grid_fails_at_once_and_says_what_to_choose(run, capfd):
    run("pipeline_1_features")
    states = run("pipeline_2_train", regressors=["ridge"], alphas=[])
    assert states["choose_configurations"] == "failed"
    assert {states["train"], states["pick_best"]} == {"upstream_failed"}
    assert "The grid is empty: choose a regressor, and an alpha if it is linear" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"regressors": ["rigde"]}, "'rigde' is not one of"),
        ({"alphas": [0]}, "0 is less than or equal to the minimum of 0"),
        ({"depths": [2.5]}, "2.5 is not of type 'integer'"),
    ],
)
def test_a_choice_that_the_form_does_not_offer_is_refused(run, params, complaint):
    with pytest.raises(ParamValidationError, match=complaint):
        run("pipeline_2_train", **params)


def test_from_features_to_predictions_by_hand(run, client):
    """As somebody does who tries one DAG after the other; on worse data, the champion stays."""
    for share, reason in ((1.0, "there is no champion yet"), (0.05, "is not better than")):
        run("pipeline_1_features", share=share)
        run("pipeline_2_train", regressors=["ridge"], alphas=[1.0])
        states = run("pipeline_3_promote")
        assert states == dict.fromkeys(["evaluate", "register_candidate", "promote"], "success"), reason
    registered = client.get_registered_model(MODEL)
    assert registered.aliases == {"champion": "1"}
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2

    assert run("pipeline_4_predict") == {"predict": "success"}

    experiment = client.get_experiment_by_name(MODEL).experiment_id
    newest, *_ = client.search_runs([experiment], order_by=["attributes.start_time DESC"])
    assert newest.data.params["version"] == "1"
    artifacts = {file.path for file in client.list_artifacts(newest.info.run_id)}
    assert {"predictions.csv", "predicted_against_actual.png"} <= artifacts


def test_a_rollback_swaps_the_two_versions_and_the_next_one_swaps_them_back(run, two_versions):
    for aliases in ({"champion": "1", "previous": "2"}, {"champion": "2", "previous": "1"}):
        states = run("pipeline_rollback")
        assert set(states.values()) == {"success"}
        assert two_versions.get_registered_model(MODEL).aliases == aliases


def test_a_rollback_without_a_version_before_moves_nothing_and_says_so(run, two_versions, capfd):
    two_versions.delete_registered_model_alias(MODEL, "previous")
    states = run("pipeline_rollback")
    assert states["find_versions"] == "failed"
    assert two_versions.get_registered_model(MODEL).aliases == {"champion": "2"}
    assert "There is no version to go back to" in capfd.readouterr().out


def test_a_rollback_of_a_model_that_nobody_has_registered_says_the_same(run, client, capfd):
    assert run("pipeline_rollback")["find_versions"] == "failed"
    assert "There is no version to go back to" in capfd.readouterr().out


def test_predictions_without_a_champion_fail_at_once_and_say_what_to_do(run, client, capfd):
    assert run("pipeline_4_predict") == {"predict": "failed"}
    assert "no champion yet. Trigger pipeline_1_features first." in capfd.readouterr().out
