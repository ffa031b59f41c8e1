"""Tracked tasks at a server that accepts three requests a second, as Databricks does for some."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import pytest

from mlflow_provider import task_run
from mlflow_proxy import Fault
from tries import Try, status_of

TASKS, AT_ONCE, REQUESTS_PER_SECOND = 64, 16, 3
NEW = SimpleNamespace(next_method=None, task_reschedule_count=0)


def tracked(experiment: str, index: int) -> None:
    import mlflow

    a_try = Try(f"manual__{experiment}", map_index=index, running=AT_ONCE, known=NEW)
    with task_run(context=a_try.context, experiment=experiment, nested=True):
        mlflow.log_metric("rmse", 0.5)


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


def run_all(task: Callable[..., None], *args: str) -> tuple[float, list[BaseException]]:
    """Run a task for each index, some at once, and return how many seconds they take, and their errors."""
    start = time.monotonic()
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("fork")) as pool:
        tasks = [pool.submit(task, *args, index) for index in range(TASKS)]
    errors = [error for each in tasks if (error := each.exception())]
    return time.monotonic() - start, errors


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
    seconds, errors = run_all(tracked, experiment)
    print(f"tracked: {seconds:.0f} s, {len(mlflow_proxy.requests)} requests")
    mlflow_proxy.requests.clear()
    seconds_by_hand, errors_by_hand = run_all(by_hand, mlflow_proxy.url, f"{experiment}, by hand", parent)
    print(f"by hand: {seconds_by_hand:.0f} s, {len(mlflow_proxy.requests)} requests")
    mlflow_proxy.faults.remove(limit)

    assert errors == errors_by_hand == []
    assert status_of(runs()) == ["FINISHED"] * (TASKS + 1)  # with the parent
    assert seconds <= seconds_by_hand
