"""What ``make demo`` promises: lessons and a pipeline that succeed, and their results in MLflow."""

from __future__ import annotations

import configparser
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import Ridge

from dev.tests.helpers.embedded_stack import Stack, tags_of
from dev.tests.stack.test_pages import read_page
from local_stack import demo
from local_stack.ports import Ports
from local_stack.settings import LocalError

RUNS_AT_ONCE = 3


def needs(dag_id: str) -> pytest.MarkDecorator:
    """Skip a test of a lesson that was deleted."""
    return pytest.mark.skipif(dag_id not in demo.DAG_IDS, reason=f"there is no {dag_id}")


@pytest.fixture
def client(stack: Stack, untouched_mlflow: None, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """MLflow's client, set up as in a notebook."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stack.mlflow_url)
    return MlflowClient()


def xcom(stack: Stack, dag_id: str, task_id: str, key: str = "return_value", run_id: str = "") -> object:
    return stack.airflow.xcom(dag_id, run_id or stack.demo_runs[dag_id], key, task_id)


def logged_runs(stack: Stack, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """The MLflow runs of a DAG run in all experiments, oldest first."""
    experiments = stack.clone.mlflow("experiments/search", max_results=100)["experiments"]
    return stack.clone.mlflow(
        "runs/search",
        experiment_ids=[experiment["experiment_id"] for experiment in experiments],
        filter=f"tags.`airflow.dag_id` = '{dag_id}' AND tags.`airflow.run_id` = '{run_id}'",
        order_by=["attributes.start_time ASC"],
    ).get("runs", [])


def run_with(stack: Stack, dag_id: str, **params: object) -> str:
    """Run the DAG with params, as the trigger dialog does, and return the DAG run's ID."""
    run_id = stack.airflow.trigger(dag_id, **params)
    stack.wait_for_end(dag_id, run_id)
    return run_id


def read_csv(client: MlflowClient, run_id: str, path: str, folder: Path) -> pd.DataFrame:
    return pd.read_csv(client.download_artifacts(run_id, path, str(folder)))


def assert_shows_the_demo(stack: Stack, output: str, pipeline: Sequence[str]) -> None:
    link = rf"{stack.mlflow_ui_url}/#/experiments/\d+/runs/[0-9a-f]{{32}}\?workflowType=machine_learning"
    for dag_id in (*demo.DAG_IDS, *pipeline):
        assert re.search(rf"^ {dag_id} +success +\d+ +{link} *$", output, re.MULTILINE), output
    assert f"Airflow  {stack.airflow_url}\n" in output
    assert f"MLflow   {stack.mlflow_ui_url}\n" in output
    assert "\x1b" not in output


def test_the_demo_starts_the_stack_from_nothing_and_shows_the_runs(stack):
    assert_shows_the_demo(stack, stack.demo_output, demo.PIPELINE)
    assert "\nA new champion: test_rmse " in stack.demo_output


def log_lines(stack: Stack, dag_id: str, *levels: str) -> list[dict]:
    """The lines at these levels in the logs of the demo's tasks."""
    path = f"dags/{dag_id}/dagRuns/{stack.demo_runs[dag_id]}/taskInstances"
    logs = [
        stack.call("GET", f"{path}/{task['task_id']}/logs/{task['try_number']}?map_index={task['map_index']}")
        for task in stack.call("GET", path)["task_instances"]
    ]
    return [line for log in logs for line in log["content"] if line.get("level") in levels]


@pytest.mark.parametrize("dag_id", [*demo.DAG_IDS, *demo.PIPELINE])
def test_every_task_succeeds_without_an_error_in_its_log(stack, dag_id):
    assert set(stack.task_states(dag_id, stack.demo_runs[dag_id]).values()) == {"success"}
    assert log_lines(stack, dag_id, "error", "critical") == []


# On a slow machine, matplotlib warns in the lesson with figures that it builds its list of fonts.
@pytest.mark.parametrize("dag_id", [dag_id for dag_id in demo.DAG_IDS if dag_id != "mlflow_task_dag"])
def test_no_task_of_a_lesson_logs_a_warning(stack, dag_id):
    assert log_lines(stack, dag_id, "warning") == []


def test_all_runs_have_the_name_of_this_airflow(stack):
    config = configparser.ConfigParser()
    config.read(stack.clone.folder / ".local/data/airflow/airflow.cfg")
    runs = [run for dag_id, run_id in stack.demo_runs.items() for run in logged_runs(stack, dag_id, run_id)]
    assert {tags_of(run)["airflow.instance"] for run in runs} == {config["mlflow"]["instance"]}


@pytest.mark.parametrize("dag_id", [*demo.DAG_IDS, *demo.PIPELINE])
def test_a_dag_runs_tab_has_its_mlflow_runs_and_each_tracked_task_has_its_button(stack, dag_id):
    run_id = stack.demo_runs[dag_id]
    page = read_page(stack, f"/mlflow/dags/{dag_id}/runs/{run_id}")
    last = {}  # of each task's tries
    for run in logged_runs(stack, dag_id, run_id):
        assert run["info"]["run_id"] in page
        tags = tags_of(run)
        if task_id := tags.get("airflow.task_id"):  # otherwise it is the parent of mapped tasks
            last[task_id, int(tags.get("airflow.map_index", -1))] = run["info"]
    tasks = stack.airflow.task_instances(dag_id, run_id)
    tracked = {(t["task_id"], t["map_index"]) for t in tasks if t["operator_name"] == "@task.mlflow"}
    assert last.keys() >= tracked
    assert last
    assert {info["status"] for info in last.values()} == {"FINISHED"}
    for task_id, map_index in tracked:
        info = last[task_id, map_index]
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links?map_index={map_index}"
        assert info["run_id"] in stack.call("GET", path)["extra_links"]["MLflow run"]


@needs("mlflow_tutorial_dag")
def test_the_tutorial_logs_a_scaler_and_registers_it(stack, client, tmp_path):
    dag_id = "mlflow_tutorial_dag"
    experiment = client.get_experiment_by_name("Housing")
    [logged] = logged_runs(stack, dag_id, stack.demo_runs[dag_id])
    run = client.get_run(logged["info"]["run_id"])
    assert str(xcom(stack, dag_id, "create_experiment")) == experiment.experiment_id  # JSON makes it a number
    assert run.info.run_name == "Scaler"
    assert run.info.status == "FINISHED"
    assert run.info.experiment_id == experiment.experiment_id

    from mlflow.sklearn import load_model

    model_uri = xcom(stack, dag_id, "scale_features")
    scaler = load_model(model_uri, dst_path=str(tmp_path))
    features = read_csv(client, run.info.run_id, "features.csv", tmp_path)
    scaled = read_csv(client, run.info.run_id, "scaled_features.csv", tmp_path)
    np.testing.assert_allclose(scaler.transform(features), scaled, rtol=1e-12)
    means = {f"mean_{name}": mean for name, mean in features.mean().items()}
    assert run.data.metrics == pytest.approx(means)

    assert client.get_registered_model("Housing").tags == {"model_type": "regression", "data": "housing"}
    version = client.get_model_version("Housing", xcom(stack, dag_id, "register_scaler", "version"))
    assert (version.source, version.run_id) == (model_uri, run.info.run_id)


@needs("mlflow_task_dag")
def test_the_task_dag_evaluates_the_model_it_trained(stack, client):
    dag_id = "mlflow_task_dag"
    trained, evaluated = (
        client.get_run(xcom(stack, dag_id, task_id, "mlflow_run_id")) for task_id in ("train", "evaluate")
    )
    assert trained.data.params == {
        "regressor": "Ridge",
        **{k: str(v) for k, v in Ridge(alpha=10.0).get_params().items()},
    }
    scores = xcom(stack, dag_id, "evaluate")
    assert evaluated.data.metrics == pytest.approx(scores)
    assert scores["test_r2"] > 0.7
    assert 0 < scores["test_mae"] < scores["test_rmse"] < 60_000  # USD

    model = client.get_logged_model(xcom(stack, dag_id, "train"))
    metrics = {metric.key: metric.value for metric in model.metrics}
    assert metrics == pytest.approx({**scores, **trained.data.metrics})
    assert model.source_run_id == trained.info.run_id

    figures = {file.path: file.file_size for file in client.list_artifacts(evaluated.info.run_id)}
    assert figures.keys() == {"predicted_against_actual.png", "residuals.png", "importance.png"}
    for run, context in ((trained, "training"), (evaluated, "test")):
        [data] = run.inputs.dataset_inputs
        assert data.dataset.name == "Ames housing"
        assert data.tags[0].value == context


@needs("mlflow_task_dag")
def test_a_failed_first_try_leaves_a_run_with_the_reason(stack, client):
    dag_id = "mlflow_task_dag"
    run_id = run_with(stack, dag_id, fail=True)

    run = client.get_run(xcom(stack, dag_id, "train", "mlflow_run_id", run_id))
    assert run.info.status == "FINISHED"
    first_run = client.get_run(run.data.tags["airflow.retry_of"])
    assert first_run.info.status == "FAILED"
    assert first_run.data.tags["airflow.reason"] == "RuntimeError: The first try was told to fail."


@needs("mlflow_package_dag")
def test_the_tasks_of_the_package_dag_log_the_same(stack, client):
    dag_id = "mlflow_package_dag"
    logged = logged_runs(stack, dag_id, stack.demo_runs[dag_id])
    runs = [client.get_run(run["info"]["run_id"]) for run in logged]
    plain, tracked = sorted(runs, key=lambda run: run.info.run_name)
    assert (plain.info.run_name, tracked.info.run_name) == ("Plain task", "Tracked task")
    assert plain.info.experiment_id == tracked.info.experiment_id
    assert plain.data.params == tracked.data.params
    assert plain.data.params["alpha"] == "10.0"
    assert plain.data.metrics == tracked.data.metrics
    assert plain.data.metrics.keys() >= {"training_root_mean_squared_error", "test_rmse"}
    for run in runs:
        assert [data.tags[0].value for data in run.inputs.dataset_inputs] == ["train", "eval"]
        assert "Task instance in Airflow" in run.data.tags["mlflow.note.content"]


@needs("mlflow_hook_dag")
def test_the_hook_dag_compares_a_profile_with_the_previous_one(stack, client):
    stack.wait_until_idle()
    dag_id = "mlflow_hook_dag"
    demo_run = client.get_run(xcom(stack, dag_id, "log_profile"))
    experiment, newest_first = demo_run.info.experiment_id, ["attributes.start_time DESC"]
    previous, *_ = client.search_runs([experiment], "run_name LIKE 'Prices in %'", order_by=newest_first)

    run_id = run_with(stack, dag_id, neighborhood="Somerset")

    profile = client.get_run(xcom(stack, dag_id, "log_profile", run_id=run_id))
    assert profile.info.run_name == "Prices in Somerset"
    means = client.get_metric_history(profile.info.run_id, "mean_price")
    assert [metric.step for metric in means] == [2006, 2007, 2008, 2009, 2010]
    assert means[-1].value == pytest.approx(206_386.95, abs=0.01)
    change = profile.data.metrics["mean_price"] - previous.data.metrics["mean_price"]
    assert profile.data.tags["change"].startswith(f"mean_price {change:+,.0f} USD, median_price ")
    assert profile.data.tags["change"].endswith(f"compared with {previous.info.run_name}")


@needs("mlflow_operator_dag")
def test_the_operator_dag_moves_the_alias_to_a_new_version(stack, client):
    dag_id = "mlflow_operator_dag"
    stack.wait_until_idle()
    old_version = client.get_model_version_by_alias("Housing prices", "challenger")

    run_id = stack.run(dag_id)

    version = client.get_model_version_by_alias("Housing prices", "challenger")
    assert int(version.version) > int(old_version.version)
    assert version.run_id == xcom(stack, dag_id, "train_model", "mlflow_run_id", run_id)
    assert version.source == xcom(stack, dag_id, "train_model", "model_uri", run_id)
    for task_id in ("register_model", "get_challenger"):
        assert xcom(stack, dag_id, task_id, run_id=run_id)["model_version"]["version"] == version.version
    assert version.tags["dag_run"] == run_id
    [price] = xcom(stack, dag_id, "predict", run_id=run_id)
    assert 100_000 < price < 250_000  # USD
    error = client.get_run(version.run_id).data.metrics["test_rmse"]
    assert f"Error on held-out sales: {error:,.0f} USD (RMSE)" in version.description


@needs("mlflow_operator_dag")
def test_clearing_an_old_run_of_the_operator_dag_does_not_move_the_alias_back(stack, client):
    dag_id, old = "mlflow_operator_dag", stack.demo_runs["mlflow_operator_dag"]
    stack.wait_until_idle()
    stack.run(dag_id)
    old_version = client.get_model_version_by_alias("Housing prices", "challenger")
    cleared = {"dag_run_id": old, "task_ids": ["register_model"], "include_downstream": True}
    everything = {"only_failed": False, "reset_dag_runs": True, "dry_run": False}

    stack.call("POST", f"dags/{dag_id}/clearTaskInstances", **cleared, **everything)
    stack.wait_until_idle()

    assert stack.task_states(dag_id, old)["get_challenger"] == "success"
    after = client.get_model_version_by_alias("Housing prices", "challenger")
    assert (after.version, after.run_id) == (old_version.version, old_version.run_id)


def test_the_demo_can_run_again_while_its_dags_are_running(stack):
    """Each lesson runs several times at once, and each DAG run has its own MLflow run."""
    others = [
        (dag_id, stack.airflow.trigger(dag_id)) for dag_id in demo.DAG_IDS for _ in range(RUNS_AT_ONCE - 1)
    ]
    output = stack.clone.make("demo")

    assert output.startswith("Already up\n")
    *stages, predict = demo.PIPELINE
    assert_shows_the_demo(stack, output, stages)
    assert f"\n {predict}" not in output
    assert "\nThe champion stays: test_rmse " in output
    states = {run: stack.wait_for_end(*run)["state"] for run in others}
    assert states == dict.fromkeys(others, "success")
    run_ids = {logged_runs(stack, *run)[-1]["info"]["run_id"] for run in others}
    lessons = "|".join(demo.DAG_IDS)
    run_ids.update(re.findall(rf"^ (?:{lessons}) .*/runs/([0-9a-f]{{32}})", output, re.MULTILINE))
    assert len(run_ids) == RUNS_AT_ONCE * len(demo.DAG_IDS)
    assert run_ids <= stack.clone.run_ids()


def test_the_demo_notices_a_wrong_tag_and_a_missing_row(stack, client, tmp_path):
    ports = Ports(airflow=stack.clone.airflow_port, mlflow=stack.clone.mlflow_port)
    [run] = logged_runs(stack, demo.TUTORIAL, stack.demo_runs[demo.TUTORIAL])
    run_id = run["info"]["run_id"]
    demo.check_tutorial(ports, run)

    client.set_registered_model_tag("Housing", "team", "data science")  # the exercise
    demo.check_tutorial(ports, run)
    client.set_registered_model_tag("Housing", "data", "cars")
    with pytest.raises(LocalError, match=r"tag data of the registered model .* got 'cars'"):
        demo.check_tutorial(ports, run)
    client.set_registered_model_tag("Housing", "data", "housing")

    scaled = Path(client.download_artifacts(run_id, "scaled_features.csv", str(tmp_path))).read_text()
    client.log_text(run_id, scaled.rstrip("\n").rpartition("\n")[0], "scaled_features.csv")
    with pytest.raises(LocalError, match=r"rows of scaled_features\.csv .* expected 2930, got 2929"):
        demo.check_tutorial(ports, run)
    client.log_text(run_id, scaled, "scaled_features.csv")


def test_the_demo_shows_the_log_of_a_failed_task(stack):
    run_id = stack.run("failing")
    message = (
        r"(?s)^failing: task breaks_down ended as failed, expected success\..*RuntimeError: out of order"
    )
    with pytest.raises(LocalError, match=message):
        demo.check_tasks(stack.airflow, "failing", run_id)


def test_the_demo_leaves_no_temporary_files(stack):
    assert stack.temporary_files == []
