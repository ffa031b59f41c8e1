"""Run the example DAGs, and look from outside at what they left in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from rich.console import Console
from rich.table import Column, Table

from local.airflow_api import AirflowApi
from local.settings import LocalError
from local.waiting import wait_for

if TYPE_CHECKING:
    from local.ports import Ports

TUTORIAL = "mlflow_tutorial_dag"
DAG_IDS = (TUTORIAL, "mlflow_hook_dag", "mlflow_operator_dag", "mlflow_task_dag")
PATIENCE = 600  # seconds for all of them; where nothing else runs, a twentieth of it is enough


def run(console: Console, ports: Ports) -> None:
    """Run the four DAGs at the same time, check what they did, and print a table of it.

    :raises LocalError: a task did not succeed, or MLflow does not hold what the tutorial promises.
    """
    api = AirflowApi(ports.airflow)
    api.log_in()
    run_ids = {dag_id: api.trigger(dag_id) for dag_id in DAG_IDS}

    def unfinished() -> list[str]:
        return [dag_id for dag_id, run_id in run_ids.items() if not api.dag_run(dag_id, run_id)["end_date"]]

    wait_for(console, unfinished, PATIENCE, "has run")
    table = Table("DAG", "state", Column("seconds", justify="right"), "MLflow run", box=None)
    for dag_id, run_id in run_ids.items():
        check_tasks(api, dag_id, run_id)
        dag_run = api.dag_run(dag_id, run_id)
        info = _run(ports, api.xcom(dag_id, run_id, "mlflow_run_id"))["info"]
        expect(dag_id, "status of the run", "FINISHED", info["status"])
        page = f"experiments/{info['experiment_id']}/runs/{info['run_id']}?workflowType=machine_learning"
        link = f"http://localhost:{ports.mlflow}/#/{page}"
        table.add_row(dag_id, dag_run["state"], f"{dag_run['duration']:.0f}", link)
    check_tutorial(ports, api.xcom(TUTORIAL, run_ids[TUTORIAL], "mlflow_run_id"))
    # However narrow the terminal: a link that is cut is none.
    Console(width=200, highlight=False).print(table)


def check_tasks(api: AirflowApi, dag_id: str, run_id: str) -> None:
    """Make sure that every task instance of the DAG run succeeded."""
    failed = [task for task in api.task_instances(dag_id, run_id) if task["state"] != "success"]
    if failed:
        # The first one tells why; those after it were never started.
        task = min(failed, key=lambda task: task["start_date"] or "never")
        message = f"{dag_id}: task {task['task_id']} is {task['state']}, expected success."
        raise LocalError(message, api.log(dag_id, run_id, task))


def check_tutorial(ports: Ports, run_id: str) -> None:
    """Make sure that the run, its artifacts and the registered model are as the tutorial says."""
    expect(TUTORIAL, "name of the run", "Scaler", _run(ports, run_id)["info"]["run_name"])
    for name in ("features.csv", "scaled_features.csv"):
        lines = _get(ports, "get-artifact", {"run_uuid": run_id, "path": name}).text.splitlines()
        expect(TUTORIAL, f"rows of {name}", 2930, len(lines) - 1)
    found = _get(ports, "api/2.0/mlflow/registered-models/get", {"name": "Housing"}).json()
    tags = {tag["key"]: tag["value"] for tag in found["registered_model"].get("tags", [])}
    expect(TUTORIAL, "tags of the registered model", {"model_type": "regression", "data": "housing"}, tags)


def expect(dag_id: str, what: str, expected: object, seen: object) -> None:
    """Compare what MLflow holds with what a DAG promises."""
    if seen != expected:
        raise LocalError(f"{dag_id}: {what} in MLflow: expected {expected!r}, seen {seen!r}.")


def _run(ports: Ports, run_id: str) -> dict[str, Any]:
    return _get(ports, "api/2.0/mlflow/runs/get", {"run_id": run_id}).json()["run"]


def _get(ports: Ports, path: str, params: dict[str, str]) -> requests.Response:
    response = requests.get(f"http://127.0.0.1:{ports.mlflow}/{path}", params=params, timeout=60)
    if not response.ok:
        problem = f"MLflow answers {response.status_code} to {path} {params}"
        raise LocalError(f"What the DAGs should have left in MLflow cannot be had: {problem}.", response.text)
    return response
