"""Two Airflows that log to one MLflow server, with DAG runs of the same ID, as schedules create them."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.tests.helpers.clones import run_clone
from dev.tests.helpers.embedded_stack import Stack, tags_of
from dev.tests.helpers.logging_task import LoggingTask
from dev.waiting import wait_until
from local_stack.airflow_api import AirflowApi
from local_stack.demo import TUTORIAL

RUN_ID = "daily__2026-01-31"


@pytest.fixture(scope="module")
def other_stack(_stack: Stack) -> Iterator[Stack]:
    """Another Airflow, whose ``mlflow_default`` leads to the MLflow of the first."""
    connection = {"conn_type": "mlflow", "host": _stack.mlflow_url}
    with tempfile.TemporaryDirectory() as folder, run_clone(Path(folder).resolve()) as clone:
        (clone.folder / ".env").write_text(f"AIRFLOW_CONN_MLFLOW_DEFAULT={json.dumps(connection)}\n")
        for lesson in {*clone.folder.glob("dags/*.py")} - {clone.folder / "dags" / f"{TUTORIAL}.py"}:
            lesson.unlink()
        shutil.copy(Path(__file__).parent / "dags" / "task_mlflow.py", clone.folder / "dags")
        output = clone.make("demo", **clone.ports)
        airflow = AirflowApi(clone.airflow_port)
        airflow.log_in()
        yield Stack(clone, airflow, output, {}, [])


def test_the_mlflow_in_env_replaces_the_local_one(stack, other_stack):
    """Its demo has found its run there."""
    url = stack.mlflow_url
    assert re.search(rf"\n {TUTORIAL} +success +\d+ +{url}/#/experiments/\d+/runs/", other_stack.demo_output)
    assert f"\nMLflow   {url}  (AIRFLOW_CONN_MLFLOW_DEFAULT in .env)" in other_stack.demo_output
    assert " mlflow " not in other_stack.clone.make("status")
    connection = other_stack.call("GET", "connections/mlflow_default")
    assert connection["host"] == url
    assert other_stack.call("POST", "connections/test", **connection)["status"] is True


@pytest.mark.fault(
    "Two Airflows have DAG runs of the same ID on one MLflow",
    sees="each Airflow its own runs",
    green="all along",
)
def test_each_airflow_closes_only_its_own_runs(stack, other_stack):
    first = LoggingTask(stack, RUN_ID)
    first.wait_for_run()
    second = LoggingTask(other_stack, RUN_ID)
    wait_until("both runs are open", first.statuses, lambda statuses: statuses == ["RUNNING"] * 2)
    second.stop()
    second.wait_for_end()
    # The callback of a later DAG run comes after that of the second one.
    killed = other_stack.run("killed")
    wait_until(
        "the callback of a later DAG run has closed its run",
        lambda: stack.mlflow_statuses("killed", killed),
        lambda statuses: statuses == ["KILLED"],
    )

    assert first.statuses() == ["RUNNING", "FINISHED"]
    first.stop()
    first.wait_for_end()
    assert first.statuses() == ["FINISHED", "FINISHED"]
    runs = stack.mlflow_runs(LoggingTask.dag_id, RUN_ID)
    assert len({tags_of(run)["airflow.instance"] for run in runs}) == 2
