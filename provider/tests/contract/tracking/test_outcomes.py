"""All the ways in which Airflow's task runner ends a task, and how its run ends."""

from __future__ import annotations

import airflow
import pytest

from dag_runs import run_dag

TRIGGER = "TriggerDagRunOperator(task_id='trigger', trigger_dag_id={}).execute(context)"
# The body of a task's function, or its arguments; and the status of its run.
OUTCOMES = {
    "finishes": ("pass", "FINISHED"),
    "fails": ("raise ValueError('no sales')", "FAILED"),
    "fails_without_retries": ("raise AirflowFailException('no sales')", "FAILED"),
    "exits": ("sys.exit(0)", "FAILED"),
    "is_interrupted": ("raise KeyboardInterrupt", "KILLED"),
    "times_out": ("time.sleep(60)", "KILLED"),
    "is_terminated": ("raise AirflowTaskTerminated", "KILLED"),
    "is_skipped": ("raise AirflowSkipException('nothing new')", "FINISHED"),
    "skips_downstream_tasks": ("raise DownstreamTasksSkipped(tasks=[])", "FINISHED"),
    "triggers_a_dag_run": (TRIGGER.format("'triggered'"), "FINISHED"),
    # Airflow then passes no exception to listeners.
    "triggers_a_dag_run_that_exists": (
        TRIGGER.format("'outcomes', trigger_run_id=context['run_id']"),
        "FAILED",
    ),
    "triggers_a_dag_run_in_vain": (
        TRIGGER.format("'missing'"),
        "FAILED",
    ),
    # What happens after the function has returned.
    "returns_what_no_xcom_can_hold": ("return NoXCom()", "FAILED"),
    "returns_a_list_as_multiple_outputs": ("return [1]", "FAILED"),
    "fails_in_post_execute": ("pass", "FAILED"),
    "is_skipped_in_post_execute": ("pass", "FINISHED"),
}
ARGUMENTS = {
    "times_out": "execution_timeout=timedelta(seconds=5)",
    "returns_a_list_as_multiple_outputs": "multiple_outputs=True",
    "fails_in_post_execute": "post_execute=fail",
    "is_skipped_in_post_execute": "post_execute=skip",
}
DAG_FILE = """
import sys
import time
from datetime import timedelta

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
)
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, task
import mlflow  # here, because the timeout of a task would interrupt it

from mlflow_provider.version_compat import AirflowTaskTerminated


class NoXCom:
    def __reduce__(self):
        raise TypeError("no XCom")


def fail(context, result=None):
    raise ValueError("after the end")


def skip(context, result=None):
    raise AirflowSkipException("after the end")


@dag(schedule=None)
def triggered():
    pass


@dag(schedule=None)
def outcomes():
{tasks}

triggered()
outcomes()
"""
TASK = """
    @task.mlflow(experiment={experiment!r}, nested=True, {arguments})
    def {task_id}(**context):
        {body}

    {task_id}()
"""


@pytest.mark.usefixtures("mlflow_default")
def test_a_run_ends_as_airflow_ends_its_task(runs, parents, experiment, tmp_path):
    tasks = "".join(
        TASK.format(experiment=experiment, arguments=ARGUMENTS.get(task_id, ""), task_id=task_id, body=body)
        for task_id, (body, _) in OUTCOMES.items()
    )
    (tmp_path / "outcomes.py").write_text(DAG_FILE.format(tasks=tasks))
    output = run_dag(tmp_path, "outcomes")

    expected = {task_id: status for task_id, (_, status) in OUTCOMES.items()}
    # 3.1 takes a missing DAG for a triggered one; the error of 3.2 leaves the task runner without a listener.
    if airflow.__version__.startswith(("3.1.", "3.2.")):
        expected["triggers_a_dag_run_in_vain"] = "FINISHED"
    result = {run.data.tags["airflow.task_id"]: run for run in runs()}
    assert {task_id: run.info.status for task_id, run in result.items()} == expected, output[-5000:]
    assert result["fails_in_post_execute"].data.tags["airflow.reason"] == "ValueError: after the end"
    assert [parent.info.status for parent in parents()] == ["KILLED"]
