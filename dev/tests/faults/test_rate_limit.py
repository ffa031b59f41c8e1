"""Tracked tasks at a server that accepts three requests a second, as Databricks does for some."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from dev.tests.helpers.nested_tasks import nested_task, run_all
from mlflow_proxy import Fault
from tries import status_of

TASKS, AT_ONCE, REQUESTS_PER_SECOND = 64, 16, 3


def by_hand(url: str, experiment: str, parent_run_id: str, index: int) -> None:
    """Do the same with the package, and again if it fails, as Airflow's retries do."""
    import mlflow

    def train() -> None:
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment(experiment)
        with (
            mlflow.start_run(run_id=parent_run_id),
            mlflow.start_run(run_name=f"train[{index}]", nested=True),
        ):
            mlflow.log_metric("rmse", 0.5)

    is_done = False
    while not is_done:
        with suppress(mlflow.MlflowException):
            train()
            is_done = True


def seconds_of(task: Callable[..., None], *args: str) -> float:
    """Return how long all tasks take."""
    start = time.monotonic()
    assert run_all(TASKS, AT_ONCE, task, *args) == []
    return time.monotonic() - start


@pytest.mark.timeout(3000)
@pytest.mark.fault(
    f"MLflow accepts {REQUESTS_PER_SECOND} requests a second from {TASKS} tracked tasks",
    sees="in the tasks' logs: Retrying",
    green="by itself",
)
@pytest.mark.parametrize(
    "headers", [{}, {"Retry-After": "1"}], ids=["without Retry-After", "with Retry-After"]
)
def test_all_finish_and_no_later_than_without_the_provider(
    mlflow_proxy, hook, experiment, runs, airflow_connection, headers
):
    airflow_connection(host=mlflow_proxy.url)
    experiment_id = hook.get_or_create_experiment(f"{experiment}, by hand")
    parent = hook.client.create_run(experiment_id).info.run_id
    limit = Fault(status=429, headers=headers, above=REQUESTS_PER_SECOND)
    mlflow_proxy.faults.append(limit)
    seconds = seconds_of(nested_task, experiment)
    print(f"tracked: {seconds:.0f} s, {len(mlflow_proxy.requests)} requests")
    mlflow_proxy.requests.clear()
    seconds_by_hand = seconds_of(by_hand, mlflow_proxy.url, f"{experiment}, by hand", parent)
    print(f"by hand: {seconds_by_hand:.0f} s, {len(mlflow_proxy.requests)} requests")
    mlflow_proxy.faults.remove(limit)

    assert status_of(runs()) == ["FINISHED"] * (TASKS + 1)  # with the parent
    assert seconds <= seconds_by_hand
