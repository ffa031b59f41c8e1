"""Tracked tasks with a server that reads from a replica of its database, some seconds behind."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import mlflow
import pytest

from mlflow_provider import close_open_runs, task_run
from mlflow_servers import run_replicated_server
from tries import Try, fail, status_of

LAG = float(os.environ.get("REPLICA_LAG", "2"))  # seconds; `make -C dev faults` sets 10
TASKS = 8
BEFORE = SimpleNamespace(next_method=None, task_reschedule_count=0)


@pytest.fixture(scope="module")
def replicated_server(mlflow_server, tmp_path_factory):
    with run_replicated_server(mlflow_server, tmp_path_factory.mktemp("replicated"), LAG) as server:
        yield server


@pytest.fixture
def mlflow_default(replicated_server, airflow_connection) -> str:
    return airflow_connection("mlflow_default", **replicated_server.connection)


@pytest.fixture
def caught_up():
    return lambda: time.sleep(LAG + 1)


def end_of_dag_run(a_try: Try, state: str) -> None:
    dag_run = SimpleNamespace(clear_number=0, state=state)
    close_open_runs({"dag": SimpleNamespace(dag_id="housing"), "run_id": a_try.run_id, "dag_run": dag_run})


def train(experiment: str, run_id: str, map_index: int) -> None:
    a_try = Try(run_id, map_index=map_index, running=TASKS, max_tries=0, known=BEFORE)
    with task_run(context=a_try.context, experiment=experiment, nested=True):
        mlflow.log_metric("rmse", 0.5)
        if map_index == 0:
            raise ValueError("no sales")


@pytest.mark.fault(
    f"MLflow reads from a replica of its database that is {LAG:g} s behind",
    sees="in the task's log: MLflow does not show ... yet; tasks that start a little later",
    green="by itself",
)
@pytest.mark.skipif(
    mlflow.__version__.startswith("3.0."), reason="MLflow 3.0 reads a run before it logs a metric to it"
)
@pytest.mark.parametrize("is_new", [True, False], ids=["new experiment", "known experiment"])
def test_tasks_that_start_together_have_one_parent_with_their_status(
    a_try, experiment, hook, runs, parents, caught_up, is_new
):
    if not is_new:
        hook.get_or_create_experiment(experiment)
        caught_up()
    with ProcessPoolExecutor(TASKS, multiprocessing.get_context("fork")) as pool:
        tasks = [pool.submit(train, experiment, a_try.run_id, index) for index in range(TASKS)]
    errors = [task.exception() for task in tasks]
    assert [str(error) for error in errors if error] == ["no sales"]
    end_of_dag_run(a_try, "failed")
    caught_up()

    assert sorted(status_of(runs())) == ["FAILED"] + ["FINISHED"] * (TASKS - 1)
    [parent] = parents()
    assert parent.info.status == "FAILED"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs()} == {parent.info.run_id}


def test_a_retry_that_starts_at_once_continues_its_run(a_try, experiment, runs, caught_up):
    fail(a_try, ValueError("no sales"), experiment=experiment, retry="continue")
    a_try.try_number, a_try.known = 2, BEFORE
    with task_run(context=a_try.context, experiment=experiment, retry="continue"):
        pass
    caught_up()

    assert status_of(runs()) == ["FINISHED"]


def test_the_end_of_a_dag_run_leaves_runs_that_have_just_ended(a_try, experiment, runs, parents, caught_up):
    with task_run(context=a_try.context, experiment=experiment, nested=True):
        caught_up()
    end_of_dag_run(a_try, "success")
    caught_up()

    assert status_of(runs()) == status_of(parents()) == ["FINISHED"]
