"""A solution of each DAG's exercise, run with ``dag.test()``: the DAG file with some lines replaced."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import include
from mlflow_provider.hooks.client import MLflowClientHook

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROJECT = Path(__file__).resolve().parents[3]
PIPELINE_MODEL = "Housing pipeline"


def copy_with_changes(file: Path, changes: Mapping[str, str], folder: Path) -> Path:
    """Copy a file of the project to a folder, with some of its text replaced."""
    if not file.exists():
        pytest.skip(f"{file.name} was deleted")
    text = file.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    copy = folder / file.name
    copy.write_text(text)
    return copy


@pytest.fixture
def solve(run_dag, tmp_path):
    """A function that runs a DAG with some of its text replaced and returns the tasks; all must succeed."""

    def run(dag_id: str, changes: Mapping[str, str], **params: Any) -> set[str]:
        copy_with_changes(PROJECT / "dags" / f"{dag_id}.py", changes, tmp_path)
        states = run_dag(dag_id, tmp_path, **params)
        assert set(states.values()) == {"success"}
        return set(states)

    return run


@pytest.fixture
def change_module(monkeypatch, tmp_path):
    """A function that replaces some text of a module in ``include/`` for the rest of the test."""

    def change(name: str, changes: Mapping[str, str]) -> None:
        file = copy_with_changes(PROJECT / "include" / f"{name}.py", changes, tmp_path)
        spec = importlib.util.spec_from_file_location(f"include.{name}", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, f"include.{name}", module)
        monkeypatch.setattr(include, name, module, raising=False)

    return change


Solve = Callable[..., set[str]]
ChangeModule = Callable[[str, dict[str, str]], None]


def newest_run(client: MlflowClient, name: str, experiment_name: str = "Housing") -> Any:
    experiment = client.get_experiment_by_name(experiment_name).experiment_id
    return client.search_runs([experiment], f"run_name = '{name}'", order_by=["start_time DESC"])[0]


def test_tutorial_a_third_tag(solve: Solve, client):
    solve(
        "mlflow_tutorial_dag",
        {
            "import CreateRegisteredModelOperator, RegisterModelOperator": (
                "import CreateRegisteredModelOperator, RegisterModelOperator, SetRegisteredModelTagOperator"
            ),
            "create_registered_model, register_scaler)": (
                "create_registered_model, register_scaler, SetRegisteredModelTagOperator("
                "task_id='set_team', name=REGISTERED_MODEL_NAME, key='team', value='data science'))"
            ),
        },
    )

    tags = {"model_type": "regression", "data": "housing", "team": "data science"}
    assert client.get_registered_model("Housing").tags == tags


def test_hook_the_sales_of_each_year_are_counted(solve: Solve, client):
    solve("mlflow_hook_dag", {'mean_price="mean",': 'mean_price="mean", sales="count",'})

    run = newest_run(client, "Prices in North_Ames")
    sales = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "sales")}
    assert sales == {2006: 99, 2007: 105, 2008: 86, 2009: 95, 2010: 58}


def test_operator_the_challenger_is_copied(solve: Solve, client):
    solve(
        "mlflow_operator_dag",
        {
            "    GetModelVersionByAliasOperator,\n": (
                "    CopyModelVersionOperator,\n    GetModelVersionByAliasOperator,\n"
            ),
            "    chain([tag_version": (
                "    CopyModelVersionOperator(task_id='copy', name=REGISTERED_MODEL_NAME, "
                "version=get_challenger.output['version'], to_name='Housing prices, production')\n"
                "    chain([tag_version"
            ),
        },
    )

    challenger = client.get_model_version_by_alias("Housing prices", "challenger")
    copy, *_ = client.search_model_versions("name = 'Housing prices, production'")
    assert copy.source == f"models:/Housing prices/{challenger.version}"


def test_task_another_regressor(solve: Solve, client):
    """test_models.py logs and loads regressors of other types."""
    solve(
        "mlflow_task_dag",
        {
            "from sklearn.linear_model import Ridge": "from sklearn.ensemble import RandomForestRegressor",
            "Ridge(alpha=10.0)": "RandomForestRegressor(n_estimators=10)",
        },
    )

    experiment = client.get_experiment_by_name("Housing").experiment_id
    newest_first = [{"field_name": "creation_timestamp", "ascending": False}]
    model, *_ = client.search_logged_models([experiment], order_by=newest_first, max_results=1)
    assert (model.params["regressor"], model.params["n_estimators"]) == ("RandomForestRegressor", "10")
    metrics = {metric.key: metric.value for metric in model.metrics}
    assert metrics["test_rmse"] < 60_000  # USD


def test_package_a_failure_has_a_reason_and_a_retry_only_where_the_task_is_tracked(run_dag, client, tmp_path):
    changes = {
        "        return test_rmse\n": "        raise ValueError('too cheap')\n",
        '"retries": 2': '"retries": 1',
        "seconds=10": "seconds=0",
    }
    copy_with_changes(PROJECT / "dags" / "mlflow_package_dag.py", changes, tmp_path)

    states = run_dag("mlflow_package_dag", tmp_path)

    assert states == {"plain_task": "failed", "tracked_task": "failed"}
    tags = {}
    experiment = client.get_experiment_by_name("Housing").experiment_id
    for name in "Plain task", "Tracked task":
        retry, first = client.search_runs([experiment], f"run_name = '{name}'", order_by=["start_time DESC"])
        assert {retry.info.status, first.info.status} == {"FAILED"}
        tags[name] = (
            first.data.tags.get("airflow.reason"),
            retry.data.tags.get("airflow.retry_of") == first.info.run_id,
        )
    assert tags == {"Plain task": (None, False), "Tracked task": ("ValueError: too cheap", True)}


def test_features_another_scaler(solve: Solve, change_module: ChangeModule, client):
    change_module("features", {"StandardScaler": "QuantileTransformer"})
    solve("pipeline_1_features", {})

    run = newest_run(client, "Features", PIPELINE_MODEL)
    [model] = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    with MLflowClientHook().tracking():
        import mlflow

        assert "quantiletransformer" in mlflow.sklearn.load_model(model.model_uri).named_transformers_


def test_train_another_regressor(solve: Solve, change_module: ChangeModule, client):
    change_module(
        "regressors",
        {
            '"random_forest")': '"random_forest", "extra_trees")',
            "import GradientBoosting": "import ExtraTreesRegressor, GradientBoosting",
            '"random_forest": ': '"extra_trees": ExtraTreesRegressor,\n        "random_forest": ',
        },
    )
    solve("pipeline_1_features", {})
    solve("pipeline_2_train", {}, regressors=["extra_trees"], depths=[5], trees=20)

    run = newest_run(client, "extra_trees, max_depth=5, n_estimators=20", PIPELINE_MODEL)
    assert run.data.metrics["cv_rmse"] < 60_000  # USD


def test_promote_only_a_clearly_better_model_replaces_the_champion(solve: Solve, client, capfd):
    solve("pipeline_1_features", {})
    for alpha in (10.0, 1.0):  # the second is better by 250 USD
        solve("pipeline_2_train", {}, regressors=["ridge"], alphas=[alpha])
        solve(
            "pipeline_3_promote",
            {"        greater_is_better": "        min_absolute_change=500,\n        greater_is_better"},
        )

    assert client.get_registered_model(PIPELINE_MODEL).aliases == {"champion": "1"}
    assert "but by less than 500" in capfd.readouterr().out


def test_predict_the_price_per_square_foot(solve: Solve, client):
    solve("pipeline_1_features", {})
    solve("pipeline_2_train", {}, regressors=["ridge"], alphas=[1.0])
    solve("pipeline_3_promote", {})
    solve(
        "pipeline_4_predict",
        {"predicted_price=predicted": "predicted_price=predicted, per_foot=predicted / sales['living_area']"},
    )

    run_id = newest_run(client, "Predictions", PIPELINE_MODEL).info.run_id
    with MLflowClientHook().tracking():
        import mlflow

        header, *_ = mlflow.artifacts.load_text(f"runs:/{run_id}/predictions.csv").splitlines()
    assert header.endswith("predicted_price,per_foot")


def test_rollback_the_reason_is_in_the_description(solve: Solve, two_versions):
    solve(
        "pipeline_rollback",
        {
            "import SetRegisteredModelAliasOperator": (
                "import SetRegisteredModelAliasOperator, UpdateModelVersionOperator"
            ),
            "    doc_md": "    params={'reason': 'Prices of 2010 are wrong.'},\n    doc_md",
            "    chain(\n": (
                "    chain(\n        UpdateModelVersionOperator(task_id='note', name=REGISTERED_MODEL_NAME, "
                "version=versions[CHAMPION], description='{{ params.reason }}'),\n"
            ),
        },
    )

    assert two_versions.get_model_version(PIPELINE_MODEL, "2").description == "Prices of 2010 are wrong."
    assert two_versions.get_registered_model(PIPELINE_MODEL).aliases == {"champion": "1", "previous": "2"}


def test_doctor_a_task_for_each_queue(solve: Solve):
    tasks = solve("mlflow_doctor", {'["default"]': '["default", "gpu"]'})
    assert tasks == {"examine_default", "examine_gpu"}
