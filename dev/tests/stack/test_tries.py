"""Which run retries, pauses and other programs log to, with a real scheduler. The DAG is dags/tries.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests

from dev.tests.helpers.embedded_stack import tags_of

if TYPE_CHECKING:
    from dev.tests.helpers.embedded_stack import Stack

EVERY_TASK = {
    "is_retried",
    "is_retried_after_its_return",
    "is_retried_after_a_crash",
    "continues",
    "is_rescheduled",
    "looks_twice",
    "is_deferred",
    "forks",
    "forks_without_a_run",
    "runs_a_script",
    "runs_a_command",
    "runs_in_a_virtualenv",
    "uses_the_mlflow_package",
    "trains_a_model",
}


@dataclass(frozen=True)
class Run:
    run_id: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def _as_run(run: dict[str, Any]) -> Run:
    data = {
        kind: {entry["key"]: entry["value"] for entry in run["data"].get(kind, [])}
        for kind in ("params", "metrics", "tags")
    }
    return Run(run["info"]["run_id"], run["info"]["status"], **data)


@pytest.fixture(scope="module")
def tries(_stack: Stack) -> str:
    """A finished DAG run."""
    return _stack.run("tries")


@pytest.fixture
def runs_of(stack: Stack, tries: str) -> Callable[[str], list[Run]]:
    """A function that returns the MLflow runs of a task, oldest first."""
    runs = [_as_run(run) for run in stack.mlflow_runs("tries", tries)]
    return lambda task_id: [run for run in runs if run.tags.get("airflow.task_id") == task_id]


@pytest.fixture
def parent(stack: Stack, tries: str) -> Run:
    [parent] = [run for run in stack.mlflow_runs("tries", tries) if "airflow.parent_run" in tags_of(run)]
    return _as_run(parent)


@pytest.fixture
def log_of(stack: Stack, tries: str) -> Callable[[str], list[dict[str, Any]]]:
    """A function that returns the log of a task's first try."""
    path = f"dags/tries/dagRuns/{tries}/taskInstances"
    return lambda task_id: stack.call("GET", f"{path}/{task_id}/logs/1")["content"]


def _artifacts(stack: Stack, run: Run) -> list[str]:
    url = f"{stack.mlflow_url}/api/2.0/mlflow/artifacts/list"
    answer = requests.get(url, params={"run_id": run.run_id}, timeout=60).json()
    return [file["path"] for file in answer.get("files", [])]


def test_every_task_succeeds(stack, tries):
    assert stack.task_states("tries", tries) == dict.fromkeys(EVERY_TASK, "success")


def test_a_retry_has_its_own_run(stack, runs_of):
    failed, done = runs_of("is_retried")

    assert (failed.status, failed.params, failed.metrics) == ("FAILED", {"seed": "1"}, {"rmse_1": 0.5})
    assert failed.tags["airflow.reason"] == "ValueError: no sales in 2011"
    assert _artifacts(stack, failed) == ["1.txt"]
    assert (done.status, done.params, done.metrics) == ("FINISHED", {"seed": "2"}, {"rmse_2": 0.5})
    assert done.tags["airflow.retry_of"] == failed.run_id
    assert _artifacts(stack, done) == ["2.txt"]


@pytest.mark.parametrize(
    ("task_id", "status"),
    [("is_retried_after_its_return", "FAILED"), ("is_retried_after_a_crash", "KILLED")],
)
def test_a_try_ends_as_airflow_says_however_it_has_ended(runs_of, task_id, status):
    first, second = runs_of(task_id)

    assert (first.status, second.status) == (status, "FINISHED")
    assert second.tags["airflow.retry_of"] == first.run_id
    assert [run.tags["airflow.superseded"] for run in (first, second)] == ["true", "false"]


def test_their_parent_is_finished_like_their_last_tries(runs_of, parent):
    children = runs_of("is_retried_after_its_return") + runs_of("is_retried_after_a_crash")

    assert {child.tags["mlflow.parentRunId"] for child in children} == {parent.run_id}
    assert parent.status == "FINISHED"


def test_a_retry_can_continue_the_run(stack, runs_of):
    [run] = runs_of("continues")

    assert (run.status, run.params, run.metrics) == ("FINISHED", {"seed": "1"}, {"rmse": 0.5})
    assert _artifacts(stack, run) == ["1.txt", "2.txt"]


@pytest.mark.parametrize(
    ("task_id", "metrics"),
    [
        ("is_rescheduled", {"rmse_0": 0.5, "rmse_1": 0.5}),
        ("looks_twice", {"rmse_0": 0.5, "rmse_1": 0.5}),
        ("is_deferred", {"rmse_1": 0.5, "rmse_2": 0.5}),
        ("runs_a_script", {"rmse": 0.5}),
        ("runs_a_command", {"rmse": 0.5}),
        ("runs_in_a_virtualenv", {"rmse": 0.5}),
    ],
)
def test_everything_is_logged_to_one_run(runs_of, task_id, metrics):
    [run] = runs_of(task_id)

    assert (run.status, run.metrics) == ("FINISHED", metrics)


@pytest.mark.parametrize("task_id", ["forks", "forks_without_a_run"])
def test_forks_start_runs_at_the_same_time_and_do_not_wait_for_each_other(runs_of, task_id):
    of_forks = [run for run in runs_of(task_id) if run.metrics]

    assert sorted(run.metrics["rmse"] for run in of_forks) == [0.0, 1.0, 2.0, 3.0]
    assert {run.status for run in of_forks} == {"FINISHED"}


def test_a_run_created_by_the_mlflow_package_also_links_to_airflow(tries, runs_of):
    [run] = runs_of("uses_the_mlflow_package")

    page = f"/dags/tries/runs/{quote(tries, safe='')}/tasks/uses_the_mlflow_package?try_number=1"
    assert run.tags["airflow.url"].endswith(page)
    assert run.tags["mlflow.note.content"] == f"[Task instance in Airflow]({run.tags['airflow.url']})"


@pytest.mark.parametrize("task_id", ["trains_a_model", "uses_the_mlflow_package"])
def test_a_successful_task_logs_no_error(log_of, task_id):
    assert [entry for entry in log_of(task_id) if entry.get("level") in ("error", "critical")] == []


def test_the_log_has_a_link_to_the_run(stack, runs_of, log_of):
    [run] = runs_of("trains_a_model")
    [line] = [entry["event"] for entry in log_of("trains_a_model") if "MLflow run " in entry["event"]]

    assert line.startswith(f"MLflow run trains_a_model: {stack.mlflow_ui_url}/#/experiments/")
    assert run.run_id in line
