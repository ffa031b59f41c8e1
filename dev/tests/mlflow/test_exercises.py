"""A solution of each DAG's exercise, run by ``dag.test()``: its file with some of the lines changed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag

import include
from mlflow_provider.exceptions import MLflowNotFoundError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.process.mlflow_state import without_active_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROJECT = Path(__file__).resolve().parents[3]
PIPELINE_MODEL = "Housing pipeline"


def change(file: Path, changes: Mapping[str, str], folder: Path) -> Path:
    """Write a file of the project into a folder, with some of its lines replaced."""
    if not file.exists():
        pytest.skip(f"{file.name} was deleted")
    text = file.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    changed = folder / file.name
    changed.write_text(text)
    return changed


@pytest.fixture
def solve(airflow_database, mlflow_server, airflow_connection, tmp_path):
    """A function that runs a DAG with some of its lines replaced, and returns MLflow's client."""
    airflow_connection(**mlflow_server.connection)

    def run(dag_id: str, changes: Mapping[str, str], **params: Any) -> MlflowClient:
        change(PROJECT / "dags" / f"{dag_id}.py", changes, tmp_path)
        dag = DagBag(tmp_path, bundle_path=tmp_path, bundle_name="dags-folder").dags[dag_id]
        with without_active_run():
            dag_run = dag.test(run_conf=params)
        assert dag_run.state == "success"
        return MLflowClientHook().client

    return run


@pytest.fixture
def change_module(monkeypatch, tmp_path):
    """A function that replaces some lines of a module in ``include/`` for the rest of the test."""
    folder = tmp_path / "changed"
    folder.mkdir()

    def put_in_place(name: str, changes: Mapping[str, str]) -> None:
        changed = change(PROJECT / "include" / f"{name}.py", changes, folder)
        spec = importlib.util.spec_from_file_location(f"include.{name}", changed)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, f"include.{name}", module)
        monkeypatch.setattr(include, name, module, raising=False)

    return put_in_place


@pytest.fixture
def no_champion(solve):
    """The pipeline's registered model does not exist yet, whatever another test left."""
    with suppress(MLflowNotFoundError):
        MLflowClientHook().call("DELETE", "registered-models/delete", {"name": PIPELINE_MODEL})


Solve = Callable[..., Any]
ChangeModule = Callable[[str, dict[str, str]], None]


def newest_run(client: MlflowClient, name: str, experiment_name: str = "Housing") -> Any:
    experiment = client.get_experiment_by_name(experiment_name).experiment_id
    newest_first = ["attributes.start_time DESC"]
    return client.search_runs([experiment], f"run_name = '{name}'", order_by=newest_first)[0]


def test_tutorial_a_third_tag(solve: Solve):
    client = solve(
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


def test_hook_the_sales_of_each_year_are_counted(solve: Solve):
    client = solve("mlflow_hook_dag", {'mean_price="mean",': 'mean_price="mean", sales="count",'})

    run = newest_run(client, "Prices in North_Ames")
    sales = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "sales")}
    assert sales == {2006: 99, 2007: 105, 2008: 86, 2009: 95, 2010: 58}


def test_operator_the_challenger_is_copied(solve: Solve):
    client = solve(
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


@pytest.mark.parametrize(
    ("regressor", "module"),
    [
        ("RandomForestRegressor(n_estimators=10)", "ensemble"),
        ("HistGradientBoostingRegressor()", "ensemble"),
        ("KNeighborsRegressor()", "neighbors"),
    ],
)
def test_task_another_regressor(solve: Solve, regressor: str, module: str):
    client = solve(
        "mlflow_task_dag",
        {
            "from sklearn.linear_model import Ridge": (
                f"from sklearn.{module} import {regressor.partition('(')[0]}"
            ),
            "Ridge(alpha=10.0)": regressor,
        },
    )

    experiment = client.get_experiment_by_name("Housing").experiment_id
    newest_first = [{"field_name": "creation_timestamp", "ascending": False}]
    model, *_ = client.search_logged_models([experiment], order_by=newest_first, max_results=1)
    assert model.params["regressor"] == regressor
    metrics = {metric.key: metric.value for metric in model.metrics}
    assert metrics["test_rmse"] < 60_000  # USD


def test_features_another_scaler(solve: Solve, change_module: ChangeModule):
    change_module("features", {"StandardScaler": "QuantileTransformer"})
    client = solve("pipeline_1_features", {})

    run = newest_run(client, "Features", PIPELINE_MODEL)
    [model] = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    with MLflowClientHook().tracking():
        import mlflow

        assert "quantiletransformer" in mlflow.sklearn.load_model(model.model_uri).named_transformers_


def test_train_another_regressor(solve: Solve, change_module: ChangeModule):
    change_module(
        "regressors",
        {
            '"random_forest")': '"random_forest", "extra_trees")',
            "import GradientBoosting": "import ExtraTreesRegressor, GradientBoosting",
            '"random_forest": ': '"extra_trees": ExtraTreesRegressor,\n        "random_forest": ',
        },
    )
    solve("pipeline_1_features", {})
    client = solve("pipeline_2_train", {}, regressors=["extra_trees"], depths=[5], trees=20)

    run = newest_run(client, "extra_trees, max_depth=5, n_estimators=20", PIPELINE_MODEL)
    assert run.data.metrics["cv_rmse"] < 60_000  # USD


def test_promote_a_champion_that_only_a_clearly_better_model_replaces(solve: Solve, no_champion, capfd):
    solve("pipeline_1_features", {})
    for alpha in (10.0, 1.0):  # the second is better by 250 USD
        solve("pipeline_2_train", {}, regressors=["ridge"], alphas=[alpha])
        client = solve(
            "pipeline_3_promote",
            {"        greater_is_better": "        min_absolute_change=500,\n        greater_is_better"},
        )

    assert client.get_registered_model(PIPELINE_MODEL).aliases == {"champion": "1"}
    assert "but by less than 500" in capfd.readouterr().out


def test_predict_the_price_of_a_square_foot(solve: Solve, no_champion):
    solve("pipeline_1_features", {})
    solve("pipeline_2_train", {}, regressors=["ridge"], alphas=[1.0])
    solve("pipeline_3_promote", {})
    client = solve(
        "pipeline_4_predict",
        {"predicted_price=predicted": "predicted_price=predicted, per_foot=predicted / sales['living_area']"},
    )

    run_id = newest_run(client, "Predictions", PIPELINE_MODEL).info.run_id
    with MLflowClientHook().tracking():
        import mlflow

        header, *_ = mlflow.artifacts.load_text(f"runs:/{run_id}/predictions.csv").splitlines()
    assert header.endswith("predicted_price,per_foot")


def test_rollback_the_reason_is_noted(solve: Solve, no_champion):
    client = MLflowClientHook().client
    client.create_registered_model(PIPELINE_MODEL)
    for alias in ("previous", "champion"):
        version = client.create_model_version(PIPELINE_MODEL, source="s3://bucket/housing").version
        client.set_registered_model_alias(PIPELINE_MODEL, alias, version)

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

    assert client.get_model_version(PIPELINE_MODEL, "2").description == "Prices of 2010 are wrong."
    assert client.get_registered_model(PIPELINE_MODEL).aliases == {"champion": "1", "previous": "2"}


def test_doctor_a_task_for_each_queue(solve: Solve, caplog):
    solve("mlflow_doctor", {'["default"]': '["default", "gpu"]'})

    assert "end task task_id=examine_default" in caplog.text
    assert "end task task_id=examine_gpu" in caplog.text
