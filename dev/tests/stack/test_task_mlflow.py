"""``@task.mlflow`` with a real scheduler: however a task ends, MLflow has exactly the expected runs.

What needs no scheduler is in provider/tests/contract/tracking/. The DAGs are in dags/task_mlflow.py.
"""

from __future__ import annotations

from collections import Counter

import pytest

from dev.tests.helpers.embedded_stack import tags_of
from dev.waiting import wait_until


def test_mapped_tasks_share_one_parent(stack, endings):
    runs = stack.mlflow_runs("sweep", endings["sweep"])
    [parent] = [run for run in runs if "airflow.parent_run" in tags_of(run)]
    children = [tags_of(run) for run in runs if run is not parent]
    assert Counter(run["info"]["status"] for run in runs) == {"FINISHED": 9}
    assert sorted(int(child["airflow.map_index"]) for child in children) == list(range(8))
    assert {child["mlflow.parentRunId"] for child in children} == {parent["info"]["run_id"]}


def test_the_retry_of_a_killed_task_has_its_own_run(stack, endings):
    killed, run = stack.mlflow_runs("killed_then_retried", endings["killed_then_retried"])
    assert [killed["info"]["status"], run["info"]["status"]] == ["KILLED", "FINISHED"]
    assert tags_of(run)["airflow.try_number"] == "2"
    assert tags_of(run)["airflow.retry_of"] == killed["info"]["run_id"]


@pytest.mark.fault(
    "A task's process is killed, and there are no retries",
    sees="the run KILLED when the DAG run has ended",
    green="with *Clear*",
)
@pytest.mark.parametrize(("dag_id", "number"), [("killed", 1), ("killed_mapped", 3)])
def test_the_run_of_a_killed_task_without_retries_is_closed(stack, endings, dag_id, number):
    wait_until(
        "all of its MLflow runs are closed",
        lambda: stack.mlflow_statuses(dag_id, endings[dag_id]),
        lambda statuses: statuses == ["KILLED"] * number,
    )


def test_the_end_of_a_dag_run_closes_what_an_earlier_one_left_open(stack):
    earlier = stack.run("is_async")
    [run] = stack.mlflow_runs("is_async", earlier)
    stack.clone.mlflow("runs/update", run_id=run["info"]["run_id"], status="RUNNING")
    stack.run("is_async")

    wait_until(
        "the earlier run is closed",
        lambda: stack.mlflow_statuses("is_async", earlier),
        lambda statuses: statuses == ["KILLED"],
    )


@pytest.mark.fault(
    "A task times out",
    sees="the run KILLED: Timed out after ...",
    green="with *Clear*",
)
def test_a_task_that_times_out_has_a_killed_run(stack, endings):
    [run] = stack.mlflow_runs("times_out", endings["times_out"])
    assert run["info"]["status"] == "KILLED"
    assert tags_of(run)["airflow.reason"] == "Timed out after 0:00:30 (execution_timeout)"


@pytest.mark.parametrize("dag_id", ["uses_the_context_manager", "is_async"])
def test_other_kinds_of_tasks_also_have_a_run(stack, endings, dag_id):
    assert stack.mlflow_statuses(dag_id, endings[dag_id]) == ["FINISHED"]


def test_a_task_cleared_after_its_end_starts_a_new_run(stack, start_logging):
    logging = start_logging(stack)
    logging.wait_for_run()
    logging.stop()
    logging.wait_for_end()
    logging.clear()
    wait_until("there is a second run", logging.statuses, lambda statuses: len(statuses) == 2)
    logging.wait_for_end()

    assert logging.statuses() == ["FINISHED", "FINISHED"]


@pytest.mark.fault(
    "A task is cleared while it runs",
    sees="its run KILLED, and a new one",
    green="by itself",
)
def test_a_task_cleared_while_it_runs_has_a_killed_run_and_a_new_one(stack, start_logging):
    logging = start_logging(stack)
    logging.wait_for_run()
    logging.clear()
    logging.wait_for_run(number=2)
    logging.stop()
    logging.wait_for_end()

    assert logging.statuses() == ["KILLED", "FINISHED"]


@pytest.mark.fault(
    "A task is marked failed while it runs",
    sees="its run KILLED",
    green="with *Clear*",
)
def test_a_task_marked_failed_while_it_runs_has_a_killed_run(stack, start_logging):
    logging = start_logging(stack)
    logging.wait_for_run()
    logging.mark_failed()

    wait_until("its MLflow run is closed", logging.statuses, lambda statuses: statuses == ["KILLED"])
