"""The documented solution of each DAG's exercise, run with ``dag.test()``."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import include
from dev.tests.helpers.documentation import code
from mlflow_provider.hooks.client import MLflowClientHook

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROJECT = Path(__file__).resolve().parents[3]
PIPELINE_MODEL = "Housing pipeline"


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the lessons and of what they share."""
    for name in ("dags", "include"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("data"))
    return tmp_path


@pytest.fixture
def solve(project, monkeypatch) -> Callable[[str], Path]:
    """A function that applies the documented solution of a DAG's exercise, and returns the folder of DAGs."""

    def apply(dag_id: str) -> Path:
        if not (PROJECT / "dags" / f"{dag_id}.py").exists():
            pytest.skip(f"{dag_id} was deleted")
        page = "solutions-pipeline" if dag_id.startswith("pipeline") else "solutions"
        patch = code(f"docs/tutorial/{page}.md", dag_id, "diff")
        subprocess.run(["git", "apply"], cwd=project, input=patch, check=True, text=True)
        for name in re.findall(r"^\+\+\+ b/include/(\w+)\.py", patch, re.MULTILINE):
            file = project / "include" / f"{name}.py"
            spec = importlib.util.spec_from_file_location(f"include.{name}", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            monkeypatch.setitem(sys.modules, f"include.{name}", module)
            monkeypatch.setattr(include, name, module, raising=False)
        return project / "dags"

    return apply


@pytest.fixture
def run(run_dag, project) -> Callable[..., set[str]]:
    """A function that runs a DAG, as it is or with its solution, and returns its tasks; all must succeed."""

    def run(dag_id: str, folder: Path = project / "dags", **params: Any) -> set[str]:
        states = run_dag(dag_id, folder, **params)
        assert set(states.values()) == {"success"}
        return set(states)

    return run


Solve = Callable[[str], Path]
Run = Callable[..., set[str]]


def newest_run(client: MlflowClient, name: str, experiment_name: str = "Housing") -> Any:
    experiment = client.get_experiment_by_name(experiment_name).experiment_id
    return client.search_runs([experiment], f"run_name = '{name}'", order_by=["start_time DESC"])[0]


def test_tutorial_a_third_tag(solve: Solve, run: Run, client):
    run("mlflow_tutorial_dag", solve("mlflow_tutorial_dag"))

    tags = {"model_type": "regression", "data": "housing", "team": "data science"}
    assert client.get_registered_model("Housing").tags == tags


def test_hook_the_sales_of_each_year_are_counted(solve: Solve, run: Run, client):
    run("mlflow_hook_dag", solve("mlflow_hook_dag"))

    found = newest_run(client, "Prices in North_Ames")
    sales = {metric.step: metric.value for metric in client.get_metric_history(found.info.run_id, "sales")}
    assert sales == {2006: 99, 2007: 105, 2008: 86, 2009: 95, 2010: 58}


def test_operator_the_challenger_is_copied(solve: Solve, run: Run, client):
    run("mlflow_operator_dag", solve("mlflow_operator_dag"))

    challenger = client.get_model_version_by_alias("Housing prices", "challenger")
    copy, *_ = client.search_model_versions("name = 'Housing prices, production'")
    assert copy.source == f"models:/Housing prices/{challenger.version}"


def test_task_another_regressor(solve: Solve, run: Run, client):
    """test_models.py logs and loads regressors of other types."""
    run("mlflow_task_dag", solve("mlflow_task_dag"))

    experiment = client.get_experiment_by_name("Housing").experiment_id
    newest_first = [{"field_name": "creation_timestamp", "ascending": False}]
    model, *_ = client.search_logged_models([experiment], order_by=newest_first, max_results=1)
    assert (model.params["regressor"], model.params["n_estimators"]) == ("RandomForestRegressor", "100")
    metrics = {metric.key: metric.value for metric in model.metrics}
    assert metrics["test_rmse"] < 60_000  # USD


def test_package_a_failure_has_a_reason_and_a_retry_only_where_the_task_is_tracked(
    solve: Solve, run_dag, client
):
    folder = solve("mlflow_package_dag")
    file = folder / "mlflow_package_dag.py"
    file.write_text(
        file.read_text().replace('"retries": 2', '"retries": 1').replace("seconds=10", "seconds=0")
    )

    states = run_dag("mlflow_package_dag", folder)

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


def test_features_another_scaler(solve: Solve, run: Run, client):
    run("pipeline_1_features", solve("pipeline_1_features"))

    found = newest_run(client, "Features", PIPELINE_MODEL)
    [model] = client.search_logged_models(
        [found.info.experiment_id], f"source_run_id = '{found.info.run_id}'"
    )
    with MLflowClientHook().tracking():
        import mlflow

        assert "quantiletransformer" in mlflow.sklearn.load_model(model.model_uri).named_transformers_


def test_train_another_regressor(solve: Solve, run: Run, client):
    run("pipeline_1_features")
    run("pipeline_2_train", solve("pipeline_2_train"), regressors=["extra_trees"], depths=[5], trees=20)

    found = newest_run(client, "extra_trees, max_depth=5, n_estimators=20", PIPELINE_MODEL)
    assert found.data.metrics["cv_rmse"] < 60_000  # USD


def test_promote_only_a_clearly_better_model_replaces_the_champion(solve: Solve, run: Run, client, capfd):
    run("pipeline_1_features")
    solve("pipeline_3_promote")
    for alpha in (10.0, 1.0):  # the second is better by 250 USD
        run("pipeline_2_train", regressors=["ridge"], alphas=[alpha])
        run("pipeline_3_promote")

    assert client.get_registered_model(PIPELINE_MODEL).aliases == {"champion": "1"}
    assert "but by less than 500" in capfd.readouterr().out


def test_predict_the_price_per_square_foot(solve: Solve, run: Run, client):
    run("pipeline_1_features")
    run("pipeline_2_train", regressors=["ridge"], alphas=[1.0])
    run("pipeline_3_promote")
    run("pipeline_4_predict", solve("pipeline_4_predict"))

    run_id = newest_run(client, "Predictions", PIPELINE_MODEL).info.run_id
    with MLflowClientHook().tracking():
        import mlflow

        header, *_ = mlflow.artifacts.load_text(f"runs:/{run_id}/predictions.csv").splitlines()
    assert header.endswith("predicted_price,price_per_square_foot")


def test_rollback_the_reason_is_in_the_description(solve: Solve, run: Run, two_versions):
    run("pipeline_rollback", solve("pipeline_rollback"))

    assert two_versions.get_model_version(PIPELINE_MODEL, "2").description == "Prices of 2010 are wrong."
    assert two_versions.get_registered_model(PIPELINE_MODEL).aliases == {"champion": "1", "previous": "2"}


def test_doctor_a_task_for_each_queue(solve: Solve, run: Run):
    assert run("mlflow_doctor", solve("mlflow_doctor")) == {"examine_default", "examine_gpu"}
