"""What ``make demo`` promises: four DAG runs that succeed, and what a user then finds in MLflow."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from local import demo
from local.ports import Ports
from local.settings import LocalError

if TYPE_CHECKING:
    from tests.helpers.embedded_stack import Stack

SEEN_AT_ONCE = 3


@pytest.fixture
def client(stack: Stack, untouched_mlflow: None, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """MLflow's client, with what a person would type in a notebook."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stack.mlflow_url)
    return MlflowClient()


def xcom(stack: Stack, dag_id: str, task_id: str, key: str = "return_value", run_id: str = "") -> object:
    return stack.airflow.xcom(dag_id, run_id or stack.demo_runs[dag_id], key, task_id)


def read_csv(client: MlflowClient, run_id: str, path: str, folder: Path) -> pd.DataFrame:
    return pd.read_csv(client.download_artifacts(run_id, path, str(folder)))


def assert_shows_the_demo(stack: Stack, output: str) -> None:
    link = rf"{stack.mlflow_ui_url}/#/experiments/\d+/runs/[0-9a-f]{{32}}\?workflowType=machine_learning"
    for dag_id in demo.DAG_IDS:
        assert re.search(rf"^ {dag_id} +success +\d+ +{link} *$", output, re.MULTILINE), output
    assert f"Airflow  {stack.airflow_url}\n" in output
    assert f"MLflow   {stack.mlflow_ui_url}\n" in output
    assert "\x1b" not in output


def test_the_demo_starts_the_stack_from_nothing_and_shows_the_runs(stack):
    assert_shows_the_demo(stack, stack.demo_output)


@pytest.mark.parametrize("dag_id", demo.DAG_IDS)
def test_no_task_shows_an_error(stack, dag_id):
    path = f"dags/{dag_id}/dagRuns/{stack.demo_runs[dag_id]}/taskInstances"
    for task in stack.ask("GET", path)["task_instances"]:
        log = stack.ask("GET", f"{path}/{task['task_id']}/logs/1")["content"]
        assert [entry for entry in log if entry.get("level") in ("error", "critical")] == []


def test_the_tutorial_logs_a_scaler_and_registers_a_model(stack, client, tmp_path):
    dag_id = "mlflow_tutorial_dag"
    experiment = client.get_experiment_by_name("Housing")
    run = client.get_run(xcom(stack, dag_id, "scale_features", "mlflow_run_id"))
    assert str(xcom(stack, dag_id, "create_experiment")) == experiment.experiment_id  # JSON makes it a number
    assert run.info.run_name == "Scaler"
    assert run.info.status == "FINISHED"
    assert run.info.experiment_id == experiment.experiment_id
    assert run.data.params["standardscaler__with_mean"] == "True", "autolog"

    from mlflow.sklearn import load_model

    scaler = load_model(xcom(stack, dag_id, "scale_features", "model_uri"), dst_path=str(tmp_path))
    features = read_csv(client, run.info.run_id, "features.csv", tmp_path)
    scaled = read_csv(client, run.info.run_id, "scaled_features.csv", tmp_path)
    np.testing.assert_allclose(scaler.transform(features), scaled, rtol=1e-12)
    means = {f"mean_{name}": mean for name, mean in features.mean().items()}
    assert run.data.metrics == pytest.approx(means)
    assert client.get_registered_model("Housing").tags == {"model_type": "regression", "data": "housing"}


def test_the_task_dag_evaluates_the_model_it_trained(stack, client):
    ridge = client.get_run(xcom(stack, "mlflow_task_dag", "train", "mlflow_run_id"))
    assert ridge.info.status == "FINISHED"
    assert ridge.data.params["ridge__alpha"] == "1.0"
    assert ridge.data.metrics["training_r2_score"] > 0.7

    scores = xcom(stack, "mlflow_task_dag", "evaluate")
    assert {name: ridge.data.metrics[name] for name in scores} == pytest.approx(scores)
    assert scores["test_r2"] > 0.7
    assert 0 < scores["test_mae"] < scores["test_rmse"] < 60_000  # USD


def test_the_hook_dag_compares_a_profile_with_the_one_before(stack, client):
    stack.wait_until_idle()
    experiment = client.get_experiment_by_name("Housing").experiment_id
    newest, *_ = client.search_runs(
        [experiment], "run_name = 'Data profile'", order_by=["attributes.start_time DESC"]
    )
    # The data do not change, so make it look as if they had.
    client.log_metric(newest.info.run_id, "rows", 2900)

    run_id = stack.run("mlflow_hook_dag")

    assert xcom(stack, "mlflow_hook_dag", "compare_profiles", run_id=run_id) == {"rows": 30}
    profile = client.get_run(xcom(stack, "mlflow_hook_dag", "log_profile", "mlflow_run_id", run_id))
    assert profile.info.status == "FINISHED"
    assert profile.data.metrics["rows"] == 2930
    assert profile.data.metrics["mean_price"] == pytest.approx(180796.06, abs=0.01)


def test_the_operator_dag_puts_a_new_version_behind_the_alias(stack, client):
    dag_id = "mlflow_operator_dag"
    stack.wait_until_idle()
    before = client.get_model_version_by_alias("Housing prices", "challenger")

    run_id = stack.run(dag_id)

    version = client.get_model_version_by_alias("Housing prices", "challenger")
    assert int(version.version) > int(before.version)
    assert version.run_id == xcom(stack, dag_id, "train_model", "mlflow_run_id", run_id)
    assert version.source == xcom(stack, dag_id, "train_model", "model_uri", run_id)
    for task_id in ("register_model", "get_challenger"):
        assert xcom(stack, dag_id, task_id, run_id=run_id)["model_version"]["version"] == version.version
    assert version.tags["dag_run"] == run_id
    assert version.description == "Linear model of the sale price, by `mlflow_operator_dag`."


def test_the_demo_runs_again_although_its_dags_run_already(stack):
    """All of them several times at once; each DAG run has an MLflow run of its own."""
    others = [
        (dag_id, stack.airflow.trigger(dag_id)) for dag_id in demo.DAG_IDS for _ in range(SEEN_AT_ONCE - 1)
    ]
    output = stack.clone.make("demo")

    assert output.startswith("Already up\n")
    assert_shows_the_demo(stack, output)
    states = {run: stack.wait_for_end(*run)["state"] for run in others}
    assert states == dict.fromkeys(others, "success")
    run_ids = {stack.airflow.xcom(*run, "mlflow_run_id") for run in others}
    run_ids.update(re.findall(r"/runs/([0-9a-f]{32})", output))
    assert len(run_ids) == SEEN_AT_ONCE * len(demo.DAG_IDS)
    assert run_ids <= stack.clone.run_ids()


@pytest.fixture
def check_tutorial(stack: Stack) -> Callable[[], None]:
    """The demo's check of what its first run left."""
    ports = Ports(airflow=stack.clone.airflow_port, mlflow=stack.clone.mlflow_port)
    run_id = xcom(stack, demo.TUTORIAL, "scale_features", "mlflow_run_id")
    return lambda: demo.check_tutorial(ports, run_id)


def test_the_demo_says_that_all_is_right(check_tutorial):
    check_tutorial()


@pytest.fixture
def wrong_tag(client: MlflowClient) -> Iterator[None]:
    client.set_registered_model_tag("Housing", "data", "cars")
    yield
    client.set_registered_model_tag("Housing", "data", "housing")


def test_the_demo_notices_a_wrong_tag(check_tutorial, wrong_tag):
    with pytest.raises(LocalError, match=r"tags of the registered model .* seen .*'data': 'cars'"):
        check_tutorial()


@pytest.fixture
def missing_row(stack: Stack, client: MlflowClient, tmp_path: Path) -> Iterator[None]:
    run_id = xcom(stack, demo.TUTORIAL, "scale_features", "mlflow_run_id")
    scaled = Path(client.download_artifacts(run_id, "scaled_features.csv", str(tmp_path))).read_text()
    *lines, _ = scaled.splitlines(keepends=True)
    client.log_text(run_id, "".join(lines), "scaled_features.csv")
    yield
    client.log_text(run_id, scaled, "scaled_features.csv")


def test_the_demo_notices_a_table_that_lost_a_row(check_tutorial, missing_row):
    with pytest.raises(LocalError, match=r"rows of scaled_features\.csv .* expected 2930, seen 2929"):
        check_tutorial()


def test_the_demo_shows_the_log_of_a_failed_task(stack):
    run_id = stack.run("failing")
    with pytest.raises(LocalError) as caught:
        demo.check_tasks(stack.airflow, "failing", run_id)
    assert str(caught.value).startswith("failing: task breaks_down is failed, expected success.")
    assert "RuntimeError: out of order" in str(caught.value)


def test_the_demo_leaves_nothing_in_the_systems_folder_for_temporary_files(stack):
    assert stack.left_in_temporary_folder == []
