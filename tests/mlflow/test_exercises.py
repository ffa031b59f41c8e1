"""A solution of each lesson's exercise, run by ``dag.test()``: the lesson with some of its lines changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.mlflow_state import without_active_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

DAGS = Path(__file__).resolve().parents[2] / "dags"


@pytest.fixture
def solve(airflow_database, mlflow_server, airflow_connection, tmp_path):
    """A function that runs a lesson with some of its lines replaced, and returns MLflow's client."""
    airflow_connection(**mlflow_server.connection)

    def run(dag_id: str, changes: Mapping[str, str]) -> MlflowClient:
        lesson = DAGS / f"{dag_id}.py"
        if not lesson.exists():
            pytest.skip("the lesson was deleted")
        text = lesson.read_text()
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / lesson.name).write_text(text)
        dag = DagBag(tmp_path, bundle_path=tmp_path, bundle_name="dags-folder").dags[dag_id]
        with without_active_run():
            dag_run = dag.test()
        assert dag_run.state == "success"
        return MLflowClientHook().client

    return run


Solve = Callable[[str, dict[str, str]], Any]


def newest_run(client: MlflowClient, name: str) -> Any:
    experiment = client.get_experiment_by_name("Housing").experiment_id
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
