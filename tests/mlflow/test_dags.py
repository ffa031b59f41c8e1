"""The DAGs, run to their end by ``dag.test()`` against a real MLflow server.

What a user would look for in MLflow afterwards is looked for here, through MLflow's own client.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlflow_provider.hooks.client import MLflowClientHook

DAGS = Path(__file__).resolve().parents[2] / "dags"


@pytest.fixture(scope="module")
def dags():
    """The project's DAGs by ID, with a database to run them on."""
    from airflow.dag_processing.dagbag import DagBag

    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True)
    return DagBag(DAGS, bundle_path=DAGS, bundle_name="dags-folder").dags


@pytest.fixture
def server(mlflow_server):
    """The MLflow server that the connection ``mlflow_default`` leads to."""
    return mlflow_server


@pytest.fixture
def mlflow(server, airflow_connection):
    """MLflow's client, as somebody would use it to look at what the DAGs did."""
    airflow_connection(**server.connection)
    with MLflowClientHook().tracking() as client:
        yield client


@pytest.fixture
def run(dags, mlflow):
    """A function that runs a DAG and returns its XComs: ``{task_id: value}``."""

    def run_dag(dag_id: str) -> dict:
        dag_run = dags[dag_id].test()
        tasks = dag_run.get_task_instances()
        assert {task.task_id: str(task.state) for task in tasks} == {
            task.task_id: "success" for task in tasks
        }
        return {task.task_id: task.xcom_pull(task.task_id) for task in tasks}

    return run_dag


def read_csv(client, run_id: str, path: str) -> pd.DataFrame:
    text = Path(client.download_artifacts(run_id, path)).read_text()
    return pd.read_csv(io.StringIO(text), float_precision="round_trip")


def check_tutorial(run, mlflow):
    xcoms = run("mlflow_tutorial_dag")

    experiment = mlflow.get_experiment_by_name("Housing")
    assert str(xcoms["create_experiment"]) == experiment.experiment_id  # read back from JSON as a number

    scaler_run = mlflow.get_run(xcoms["scale_features"]["mlflow_run_id"])
    assert scaler_run.info.run_name == "Scaler"
    assert scaler_run.info.status == "FINISHED"
    assert scaler_run.info.experiment_id == experiment.experiment_id
    assert scaler_run.data.params["standardscaler__with_mean"] == "True", "autolog"

    from mlflow.sklearn import load_model

    scaler = load_model(xcoms["scale_features"]["model_uri"])
    features = read_csv(mlflow, scaler_run.info.run_id, "features.csv")
    scaled = read_csv(mlflow, scaler_run.info.run_id, "scaled_features.csv")
    np.testing.assert_allclose(scaler.transform(features), scaled, rtol=1e-12)
    means = {f"mean_{name}": mean for name, mean in features.mean().items()}
    assert scaler_run.data.metrics == pytest.approx(means)

    model = mlflow.get_registered_model("Housing")
    assert model.tags == {"model_type": "regression", "data": "housing"}


def test_the_tutorial_logs_a_scaler_and_registers_a_model(run, mlflow):
    check_tutorial(run, mlflow)


class TestServerWithLogin:
    @pytest.fixture
    def server(self, mlflow_auth_server):
        return mlflow_auth_server

    def test_the_tutorial_needs_only_another_connection(self, run, mlflow):
        check_tutorial(run, mlflow)


def test_the_tutorial_runs_again(run, mlflow):
    first = run("mlflow_tutorial_dag")
    second = run("mlflow_tutorial_dag")

    assert second["create_experiment"] == first["create_experiment"]
    assert second["scale_features"]["mlflow_run_id"] != first["scale_features"]["mlflow_run_id"]
    assert mlflow.get_registered_model("Housing").tags == {"model_type": "regression", "data": "housing"}


def test_the_hook_dag_compares_a_profile_with_the_one_before(run, mlflow):
    first = run("mlflow_hook_dag")["log_profile"]
    # The data do not change, so make it look as if they had.
    mlflow.log_metric(first["mlflow_run_id"], "rows", 2900)

    second = run("mlflow_hook_dag")

    assert second["compare_profiles"] == {"rows": 30}
    profile = mlflow.get_run(second["log_profile"]["mlflow_run_id"])
    assert profile.info.status == "FINISHED"
    assert profile.data.metrics["rows"] == 2930
    assert profile.data.metrics["mean_price"] == pytest.approx(180796.06, abs=0.01)


def test_the_operator_dag_puts_a_new_version_behind_the_alias(run, mlflow):
    run("mlflow_operator_dag")
    xcoms = run("mlflow_operator_dag")

    version = mlflow.get_model_version_by_alias("Housing prices", "challenger")
    assert version.run_id == xcoms["train_model"]["mlflow_run_id"]
    assert version.source == xcoms["train_model"]["model_uri"]
    assert version.version == xcoms["register_model"]["model_version"]["version"]
    assert xcoms["get_challenger"]["model_version"]["version"] == version.version
    assert version.tags["dag_run"]
    assert version.description == "Linear model of the sale price, by `mlflow_operator_dag`."


def test_the_task_dag_evaluates_the_model_it_trained(run, mlflow):
    xcoms = run("mlflow_task_dag")

    ridge = mlflow.get_run(xcoms["train"]["mlflow_run_id"])
    assert ridge.info.status == "FINISHED"
    assert ridge.data.params["ridge__alpha"] == "1.0"
    assert ridge.data.metrics["training_r2_score"] > 0.7

    scores = xcoms["evaluate"]
    assert {name: ridge.data.metrics[name] for name in scores} == pytest.approx(scores)
    assert scores["test_r2"] > 0.7
    assert 0 < scores["test_mae"] < scores["test_rmse"] < 60_000  # USD
