"""Two Airflows that log to one MLflow server, with DAG runs of the same ID, as those of a schedule are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.tests.helpers.clones import run_clone, wait_until
from dev.tests.helpers.embedded_stack import Stack
from local_stack.airflow_api import AirflowApi

HERE = Path(__file__).parent
DAG_ID = "logs_until_told"
RUN_ID = "daily__2026-01-31"


@pytest.fixture
def production(stack: Stack) -> Iterator[Stack]:
    """Another deployment, to which ``mlflow_default`` is the MLflow of the first."""
    connection = {"conn_type": "mlflow", "host": stack.mlflow_url}
    with tempfile.TemporaryDirectory() as folder, run_clone(Path(folder).resolve()) as clone:
        (clone.folder / ".env").write_text(f"AIRFLOW_CONN_MLFLOW_DEFAULT={json.dumps(connection)}\n")
        (clone.folder / "dags" / "task_mlflow.py").write_text((HERE / "dags" / "task_mlflow.py").read_text())
        clone.make("up", **clone.ports)
        airflow = AirflowApi(clone.airflow_port)
        airflow.log_in()
        yield Stack(clone, airflow, "", {}, [])


def trigger(stack: Stack, dag_id: str) -> None:
    stack.ask("PATCH", f"dags/{dag_id}", is_paused=False)
    stack.ask("POST", f"dags/{dag_id}/dagRuns", dag_run_id=RUN_ID, logical_date=None)


def tell(stack: Stack) -> None:
    told = stack.clone.folder / "dags" / "task_mlflow.told" / RUN_ID
    told.parent.mkdir(exist_ok=True)
    told.touch()
    stack.wait_for_end(DAG_ID, RUN_ID)


@pytest.mark.fault(
    "Two Airflows have DAG runs of the same ID on one MLflow",
    sees="each its own runs",
    green="all along",
)
def test_each_sees_to_its_own_runs(stack, production):
    def statuses() -> list[str]:
        return stack.mlflow_statuses(DAG_ID, RUN_ID)

    trigger(stack, DAG_ID)
    wait_until("the first one's run is there", statuses, lambda statuses: statuses == ["RUNNING"])
    trigger(production, DAG_ID)
    wait_until("the second one's, too", statuses, lambda statuses: statuses == ["RUNNING"] * 2)
    tell(production)
    # The callback for the end of its DAG run has come and gone when another DAG's has.
    trigger(production, "killed")
    production.wait_for_end("killed", RUN_ID)
    wait_until(
        "the callback of a later DAG run has come",
        lambda: stack.mlflow_statuses("killed", RUN_ID),
        lambda statuses: statuses == ["KILLED"],
    )

    assert statuses() == ["RUNNING", "FINISHED"]
    tell(stack)
    first, second = stack.mlflow_runs(DAG_ID, RUN_ID)
    deployments = [
        {tag["key"]: tag["value"] for tag in run["data"]["tags"]}["airflow.deployment"]
        for run in (first, second)
    ]
    assert [run["info"]["status"] for run in (first, second)] == ["FINISHED", "FINISHED"]
    assert len(set(deployments)) == 2
