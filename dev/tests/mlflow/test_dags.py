"""The DAGs, run with ``dag.test()``: what they reject, how they repeat, and a server that requires a login.

dev/tests/stack/test_demo.py and test_pipeline.py run all DAGs, chained by their assets, without a login.
"""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import ParamValidationError

from mlflow_provider.hooks.client import MLflowClientHook

MODEL = "Housing pipeline"


def test_the_tutorial_needs_only_another_connection_for_a_server_with_a_login(
    run_dag, mlflow_auth_server, airflow_connection
):
    airflow_connection(**mlflow_auth_server.connection)

    tasks = ["create_experiment", "scale_features", "create_registered_model", "register_scaler"]
    assert run_dag("mlflow_tutorial_dag") == dict.fromkeys(tasks, "success")

    with MLflowClientHook().tracking() as client:
        experiment = client.get_experiment_by_name("Housing")
        [run] = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"], max_results=1)
        artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
        [model] = client.search_logged_models([experiment.experiment_id], max_results=1)
        model_files = client.list_logged_model_artifacts(model.model_id)
        [version, *_] = client.search_model_versions("name = 'Housing'")
    assert (run.info.run_name, run.info.status) == ("Scaler", "FINISHED")
    assert {"features.csv", "scaled_features.csv"} <= artifacts
    assert "MLmodel" in {file.path for file in model_files}
    assert (version.run_id, version.source) == (run.info.run_id, f"models:/{model.model_id}")


def test_an_empty_grid_fails_with_advice(run_dag, capfd):
    run_dag("pipeline_1_features")
    states = run_dag("pipeline_2_train", regressors=["ridge"], alphas=[])
    assert states["choose_configurations"] == "failed"
    assert {states["train"], states["pick_best"]} == {"upstream_failed"}
    assert "The grid is empty. Choose a regressor, and an alpha for linear ones" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"regressors": ["rigde"]}, "'rigde' is not one of"),
        ({"alphas": [0]}, "0 is less than or equal to the minimum of 0"),
        ({"depths": [2.5]}, "2.5 is not of type 'integer'"),
    ],
)
def test_invalid_params_are_rejected(run_dag, params, error):
    with pytest.raises(ParamValidationError, match=error):
        run_dag("pipeline_2_train", **params)


def test_the_pipeline_can_be_run_by_hand_and_keeps_a_better_champion(run_dag, client):
    for share, reason in ((1.0, "there is no champion yet"), (0.05, "is not better than")):
        run_dag("pipeline_1_features", share=share)
        run_dag("pipeline_2_train", regressors=["ridge"], alphas=[1.0])
        states = run_dag("pipeline_3_promote")
        assert states == dict.fromkeys(["evaluate", "register_candidate", "promote"], "success"), reason
    assert client.get_registered_model(MODEL).aliases == {"champion": "1"}
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2

    assert run_dag("pipeline_4_predict") == {"predict": "success"}

    experiment = client.get_experiment_by_name(MODEL).experiment_id
    newest_run, *_ = client.search_runs([experiment], order_by=["attributes.start_time DESC"])
    assert newest_run.data.params["version"] == "1"
    artifacts = {file.path for file in client.list_artifacts(newest_run.info.run_id)}
    assert {"predictions.csv", "predicted_against_actual.png"} <= artifacts


def test_a_rollback_swaps_the_two_versions_and_the_next_one_swaps_them_back(run_dag, two_versions):
    for aliases in ({"champion": "1", "previous": "2"}, {"champion": "2", "previous": "1"}):
        assert set(run_dag("pipeline_rollback").values()) == {"success"}
        assert two_versions.get_registered_model(MODEL).aliases == aliases


@pytest.mark.parametrize("model_exists", [True, False])
def test_a_rollback_without_a_previous_version_fails_with_the_reason(
    run_dag, client, request, capfd, model_exists
):
    if model_exists:
        request.getfixturevalue("two_versions").delete_registered_model_alias(MODEL, "previous")
    assert run_dag("pipeline_rollback")["find_versions"] == "failed"
    if model_exists:
        assert client.get_registered_model(MODEL).aliases == {"champion": "2"}
    assert f"Cannot roll back '{MODEL}'" in capfd.readouterr().out


def test_predictions_without_a_champion_fail_with_advice(run_dag, client, capfd):
    assert run_dag("pipeline_4_predict") == {"predict": "failed"}
    assert "no champion yet. Trigger pipeline_1_features first." in capfd.readouterr().out
