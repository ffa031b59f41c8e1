"""Training code as other people write it, with nothing added but ``@task.mlflow``, in real task processes.

The DAG is dags/public_code.py. Each task is right, or its log has a warning with the fix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

if TYPE_CHECKING:
    from mlflow.entities import Run

# What each task logs to its own run, by the names of task and run.
OWN = {
    "loops_over_models": {"ridge": {"model": "ridge", "rmse": 0.5}},
    "optimizes_with_optuna": {"0": {"loss": 0.0, "x": "0"}},
    "logs_as_lightning_does": {"logs_as_lightning_does": {}},
    "trains_folds_in_forks": {"trains_folds_in_forks": {}},
    "trains_folds_in_loky": {"trains_folds_in_loky": {}},
    "runs_two_programs": {"program": {"rmse": 1.0}},
    "starts_a_run_for_others": {"shared": {"step": "first", "rmse": 0.5}},
    "continues_the_run_of_another": {"continues_the_run_of_another": {}},
    "uses_a_hook_in_a_plain_task": {"first": {"name": "first"}, "second": {"name": "second", "rmse": 0.7}},
    "logs_its_result_to_an_old_run": {"logs_its_result_to_an_old_run": {"difference": 0.1}},
    "runs_a_project": {"runs_a_project": {}},
}
CHILDREN = {
    "loops_over_models": {
        "lasso": {"model": "lasso", "rmse": 0.3},
        "forest": {"model": "forest", "rmse": 0.4},
    },
    "optimizes_with_optuna": {"1": {"loss": 1.0, "x": "1"}},
    "logs_as_lightning_does": {"lightning": {"alpha": "1", "loss": 0.5}},
    "trains_folds_in_forks": {f"fold {fold}": {"fold": str(fold)} for fold in range(4)},
    "trains_folds_in_loky": {f"fold {fold}": {"fold": str(fold)} for fold in range(3)},
    "runs_two_programs": {"program": {"rmse": 2.0}},
}
# The parameter in which a task's runs differ, where it is open which of them is the task's own.
ANY_ORDER = {
    "trains_folds_in_threads": ("fold", {"0", "1", "2"}),
    "fits_under_autolog": ("alpha", {"1.0", "2.0"}),
}


def logged(run: Run) -> dict[str, str | float]:
    return {**run.data.params, **run.data.metrics}


@pytest.fixture(scope="module")
def client(_stack) -> MlflowClient:
    return MlflowClient(_stack.mlflow_url)


@pytest.fixture(scope="module")
def run_id(_stack) -> str:
    """A DAG run of all tasks, which has ended."""
    _stack.wait_until_whole()
    return _stack.run("public_code")


@pytest.fixture(scope="module")
def runs(run_id, client) -> list[Run]:
    experiment = client.get_experiment_by_name("public_code")
    return client.search_runs([experiment.experiment_id])


def of_task(runs: list[Run], task_id: str) -> tuple[list[Run], list[Run]]:
    """Return the task's own runs, and their children."""
    tagged = [run for run in runs if run.data.tags.get("airflow.task_id") == task_id]
    own = [run for run in tagged if "mlflow.parentRunId" not in run.data.tags]
    ids = {run.info.run_id for run in own}
    children = [run for run in tagged if run not in own]
    assert {child.data.tags["mlflow.parentRunId"] for child in children} <= ids
    return own, children


def log_of(stack, run_id: str, task_id: str) -> list[str]:
    path = f"dags/public_code/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"
    return [line["event"] for line in stack.call("GET", path)["content"]]


def test_every_task_is_green_and_every_run_is_finished(stack, run_id, runs):
    states = stack.task_states("public_code", run_id)
    failed = [task_id for task_id, state in states.items() if state != "success"]
    assert not failed, "\n".join(line for task_id in failed for line in log_of(stack, run_id, task_id))
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.parametrize("task_id", OWN)
def test_every_run_has_its_own_record(runs, task_id):
    own, children = of_task(runs, task_id)
    assert {run.info.run_name: logged(run) for run in own} == OWN[task_id]
    if task_id not in ANY_ORDER:
        assert {run.info.run_name: logged(run) for run in children} == CHILDREN.get(task_id, {})


@pytest.mark.parametrize("task_id", ANY_ORDER)
def test_every_pass_of_a_loop_has_its_own_run(runs, task_id):
    own, children = of_task(runs, task_id)
    assert len(own) == 1
    parameter, values = ANY_ORDER[task_id]
    passes = [run.data.params[parameter] for run in (*own, *children) if parameter in run.data.params]
    assert sorted(passes) == sorted(values)


def test_every_evaluation_of_an_objective_is_a_child_of_the_search(runs):
    [search], evaluations = of_task(runs, "minimizes_an_objective")
    losses = [run.data.metrics["loss"] for run in evaluations]
    assert losses == [float(run.data.params["alpha"]) ** 2 for run in evaluations]
    assert len(losses) == 3
    assert (search.info.run_name, logged(search)) == ("search", {"best_loss": min(losses)})


def test_mlflow_makes_a_run_for_each_project(runs):
    [own], _ = of_task(runs, "runs_a_project")
    parents = {
        run.data.metrics.get("rmse"): run.data.tags.get("mlflow.parentRunId")
        for run in runs
        if run.data.tags.get("mlflow.source.type") == "PROJECT"
    }
    assert parents == {0.5: own.info.run_id, 0.6: None}


def test_a_bash_command_with_the_address_logs_to_the_server(run_id, client):
    [run] = client.search_runs(["0"], "attributes.run_name = 'program'")
    assert logged(run) == {"rmse": 3.0}


def test_another_experiment_causes_one_warning_and_no_empty_experiment(stack, run_id, client):
    log = "\n".join(log_of(stack, run_id, "optimizes_with_optuna"))
    assert log.count("Use @task.mlflow(experiment='study')") == 1
    assert client.get_experiment_by_name("study") is None
