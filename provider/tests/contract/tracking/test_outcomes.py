"""A task that fails after its function has returned: Airflow's last word is that of the run."""

from __future__ import annotations

import pytest

from dag_runs import run_dag

DAG_FILE = """
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import dag, task


class NoXCom:
    def __reduce__(self):
        raise TypeError("no XCom")


def fail(context, result=None):
    raise ValueError("after the end")


def skip(context, result=None):
    raise AirflowSkipException("after the end")


tracked = {{"experiment": "{experiment}", "nested": True}}


@dag(schedule=None)
def outcomes():
    @task.mlflow(**tracked)
    def finishes():
        pass

    @task.mlflow(**tracked)
    def returns_what_no_xcom_can_hold():
        return NoXCom()

    @task.mlflow(**tracked, multiple_outputs=True)
    def returns_a_list_as_multiple_outputs():
        return [1]

    @task.mlflow(**tracked, post_execute=fail)
    def fails_in_post_execute():
        pass

    @task.mlflow(**tracked, post_execute=skip)
    def is_skipped_in_post_execute():
        pass

    for function in (
        finishes,
        returns_what_no_xcom_can_hold,
        returns_a_list_as_multiple_outputs,
        fails_in_post_execute,
        is_skipped_in_post_execute,
    ):
        function()


outcomes()
"""


@pytest.mark.usefixtures("mlflow_default")
def test_a_run_ends_as_airflow_ends_its_task(runs, parents, experiment, tmp_path):
    (tmp_path / "outcomes.py").write_text(DAG_FILE.format(experiment=experiment))
    output = run_dag(tmp_path, "outcomes")

    result = {run.data.tags["airflow.task_id"]: run for run in runs()}
    assert {task_id: run.info.status for task_id, run in result.items()} == {
        "finishes": "FINISHED",
        "returns_what_no_xcom_can_hold": "FAILED",
        "returns_a_list_as_multiple_outputs": "FAILED",
        "fails_in_post_execute": "FAILED",
        "is_skipped_in_post_execute": "FINISHED",
    }, output[-5000:]
    assert result["fails_in_post_execute"].data.tags["airflow.reason"] == "ValueError: after the end"
    assert [parent.info.status for parent in parents()] == ["FAILED"]
