"""The pipeline on the embedded stack: one click leads to predictions, because each DAG starts the next."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import requests

from dev.waiting import wait_until
from include.features import clean, make_transformer
from include.housing import TARGET, load_housing, split_housing
from local_stack.demo import PIPELINE

if TYPE_CHECKING:
    from dev.tests.helpers.embedded_stack import Stack

FEATURES, TRAIN, PROMOTE, PREDICT = PIPELINE
ROLLBACK = "pipeline_rollback"
MODEL = "Housing pipeline"
# A candidate that is never better.
WORSE = {"share": 0.05}


def mlflow_get(stack: Stack, endpoint: str, **params: str) -> Any:
    answer = requests.get(f"{stack.mlflow_url}/{endpoint}", params=params, timeout=120)
    answer.raise_for_status()
    return answer


def aliases(stack: Stack) -> dict[str, str]:
    """The versions of the registered model that have an alias."""
    model = mlflow_get(stack, "api/2.0/mlflow/registered-models/get", name=MODEL).json()["registered_model"]
    return {each["alias"]: each["version"] for each in model["aliases"]}


def set_alias(stack: Stack, alias: str, version: str) -> None:
    stack.clone.mlflow("registered-models/alias", name=MODEL, alias=alias, version=version)


def first_since(stack: Stack, dag_id: str, since: str) -> dict[str, Any]:
    """Wait until the DAG's first run since a time has ended, and return it."""
    return wait_until(
        f"{dag_id} has run",
        lambda: stack.airflow.first_dag_run(dag_id, since),
        lambda run: run and run["end_date"],
    )


def run_to_promotion(stack: Stack, **params: Any) -> dict[str, Any]:
    """Trigger the first DAG, and return the decision of the third, which starts by itself."""
    run = stack.airflow.dag_run(FEATURES, stack.airflow.trigger(FEATURES, **params))
    for dag_id in (TRAIN, PROMOTE):
        run = first_since(stack, dag_id, run["run_after"])
        assert run["state"] == "success"
    return stack.airflow.xcom(PROMOTE, run["dag_run_id"], "return_value", "promote")


def predicted_version(stack: Stack, since: str) -> str:
    """The version that the last DAG's first run since a time predicted with."""
    run = first_since(stack, PREDICT, since)
    run_id = stack.airflow.xcom(PREDICT, run["dag_run_id"], "mlflow_run_id")
    params = mlflow_get(stack, "api/2.0/mlflow/runs/get", run_id=run_id).json()["run"]["data"]["params"]
    return {param["key"]: param["value"] for param in params}["version"]


def test_a_dag_passes_on_two_short_strings(stack):
    events = stack.call("GET", "assets/events?name_pattern=housing_&limit=100")["asset_events"]
    extras = [event["extra"] for event in events if event["source_dag_id"]]
    assert extras
    for extra in extras:
        assert sorted(extra) == ["model_uri", "run_id"]
        assert len(json.dumps(extra)) < 200


def test_the_sweep_is_four_runs_under_one_parent(stack):
    run_id = stack.airflow.xcom(TRAIN, stack.demo_runs[TRAIN], "mlflow_run_id", "train")
    child = mlflow_get(stack, "api/2.0/mlflow/runs/get", run_id=run_id).json()["run"]
    [parent_id] = [tag["value"] for tag in child["data"]["tags"] if tag["key"] == "mlflow.parentRunId"]
    children = stack.clone.mlflow(
        "runs/search",
        experiment_ids=[child["info"]["experiment_id"]],
        filter=f"tags.`mlflow.parentRunId` = '{parent_id}'",
    )["runs"]
    assert sorted(run["info"]["run_name"] for run in children) == [
        "gradient_boosting, max_depth=3, n_estimators=100",
        "gradient_boosting, max_depth=5, n_estimators=100",
        "ridge, alpha=1.0",
        "ridge, alpha=10.0",
    ]
    assert {run["info"]["status"] for run in children} == {"FINISHED"}
    for run in children:
        assert {"cv_rmse", "cv_rmse_std"} <= {metric["key"] for metric in run["data"]["metrics"]}


def test_the_champion_is_as_good_as_that_of_a_plain_script(stack):
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.metrics import root_mean_squared_error
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.pipeline import Pipeline

    training, test = split_housing(clean(load_housing()))
    search = GridSearchCV(
        Pipeline([("transformer", make_transformer()), ("regressor", Ridge())]),
        [
            {"regressor": [Ridge()], "regressor__alpha": [1.0, 10.0]},
            {"regressor": [GradientBoostingRegressor(random_state=0)], "regressor__max_depth": [3, 5]},
        ],
        scoring="neg_root_mean_squared_error",
        cv=KFold(3, shuffle=True, random_state=0),
    )
    # The order of the training sales in the pipeline.
    training = training.sample(frac=1.0, random_state=0)
    search.fit(training.drop(columns=TARGET), training[TARGET])
    expected = root_mean_squared_error(test[TARGET], search.predict(test.drop(columns=TARGET)))

    decision = stack.airflow.xcom(PROMOTE, stack.demo_runs[PROMOTE], "return_value", "promote")

    assert decision["promoted"]
    assert decision["metric"] == "test_rmse"
    assert decision["value"] == pytest.approx(expected, rel=1e-6)
    assert decision["value"] < 32_000  # USD; a house costs 180,000 on average


def test_the_evaluation_has_figures_to_decide_by(stack):
    run_id = stack.airflow.xcom(PROMOTE, stack.demo_runs[PROMOTE], "mlflow_run_id", "evaluate")
    files = mlflow_get(stack, "api/2.0/mlflow/artifacts/list", run_id=run_id).json()["files"]
    assert {"importance.png", "predicted_against_actual.png", "residuals.png"} <= {f["path"] for f in files}


def test_the_champion_predicts_a_price_for_each_held_out_sale(stack):
    run_id = stack.airflow.xcom(PREDICT, stack.demo_runs[PREDICT], "mlflow_run_id")
    text = mlflow_get(stack, "get-artifact", run_uuid=run_id, path="predictions.csv").text
    predictions = pd.read_csv(io.StringIO(text))
    _, held_out = split_housing(clean(load_housing()))
    assert len(predictions) == len(held_out)
    errors = predictions["predicted_price"] - predictions[TARGET]
    decision = stack.airflow.xcom(PROMOTE, stack.demo_runs[PROMOTE], "return_value", "promote")
    assert (errors**2).mean() ** 0.5 == pytest.approx(decision["value"])
    figure = mlflow_get(stack, "get-artifact", run_uuid=run_id, path="predicted_against_actual.png").content
    assert figure.startswith(b"\x89PNG")


def test_worse_data_does_not_replace_the_champion(idle_stack):
    baseline = aliases(idle_stack)
    decision = run_to_promotion(idle_stack, **WORSE)
    assert not decision["promoted"]
    assert decision["champion_version"] == baseline["champion"]
    assert "is not better than" in decision["reason"]
    assert aliases(idle_stack) == baseline


def test_two_pipelines_at_once_leave_one_champion(idle_stack):
    """Both asset events may start a single DAG run, which then uses the newer one."""
    baseline = aliases(idle_stack)
    first, second = (idle_stack.airflow.trigger(FEATURES, **WORSE) for _ in range(2))
    since = idle_stack.airflow.dag_run(FEATURES, first)["run_after"]
    for run_id in (first, second):
        assert idle_stack.wait_for_end(FEATURES, run_id)["state"] == "success"
    first_since(idle_stack, PROMOTE, first_since(idle_stack, TRAIN, since)["run_after"])
    idle_stack.wait_until_idle()
    for dag_id in (TRAIN, PROMOTE):
        runs = idle_stack.call("GET", f"dags/{dag_id}/dagRuns?run_after_gte={since}")["dag_runs"]
        assert runs
        assert {run["state"] for run in runs} == {"success"}
    assert aliases(idle_stack) == baseline


def test_a_rollback_swaps_champion_and_previous_and_predicts_again(idle_stack):
    champion = aliases(idle_stack)["champion"]
    candidate = run_to_promotion(idle_stack, **WORSE)["version"]
    set_alias(idle_stack, "previous", candidate)
    for expected in (
        {"champion": candidate, "previous": champion},
        {"champion": champion, "previous": candidate},
    ):
        rollback = idle_stack.airflow.dag_run(ROLLBACK, idle_stack.run(ROLLBACK))
        assert rollback["state"] == "success"
        assert aliases(idle_stack) == expected
        assert predicted_version(idle_stack, rollback["run_after"]) == expected["champion"]
