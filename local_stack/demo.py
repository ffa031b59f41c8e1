"""Run the lessons and the pipeline, and look from outside at what they left in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from rich.console import Console
from rich.table import Column, Table

from local_stack import mlflow_login, settings
from local_stack.airflow_api import AirflowApi
from local_stack.settings import LocalError
from local_stack.waiting import wait_for

if TYPE_CHECKING:
    from local_stack.ports import Ports

TUTORIAL = "mlflow_tutorial_dag"
# Those that are there: whoever builds on this project deletes the lessons that have done their work.
_LESSONS = sorted(settings.DAGS.glob("mlflow_*_dag.py"), key=lambda file: (file.stem != TUTORIAL, file))
DAG_IDS = tuple(file.stem for file in _LESSONS)
PIPELINE = ("pipeline_1_features", "pipeline_2_train", "pipeline_3_promote", "pipeline_4_predict")
CHAMPION = "housing_champion"  # the asset that Airflow's triggerer watches
PATIENCE = 600  # seconds for the lessons, or a stage of the pipeline; usually a twentieth is enough


def run(console: Console, ports: Ports) -> None:
    """Run the lessons, then the pipeline; check what they did, and print a table of each.

    :raises LocalError: a task did not succeed, or MLflow does not hold what the tutorial promises.
    """
    api = AirflowApi(ports.airflow)
    api.log_in()
    if DAG_IDS:
        run_lessons(console, api, ports)
    if all((settings.DAGS / f"{dag_id}.py").exists() for dag_id in PIPELINE):
        run_pipeline(console, api, ports)


def run_lessons(console: Console, api: AirflowApi, ports: Ports) -> None:
    """Run the lessons at the same time."""
    run_ids = {dag_id: api.trigger(dag_id) for dag_id in DAG_IDS}

    def unfinished() -> list[str]:
        return [dag_id for dag_id, run_id in run_ids.items() if not api.dag_run(dag_id, run_id)["end_date"]]

    wait_for(console, unfinished, PATIENCE, "has run")
    table = _table()
    for dag_id, run_id in run_ids.items():
        check_tasks(api, dag_id, run_id)
        _add_row(table, api, ports, api.dag_run(dag_id, run_id))
    if TUTORIAL in run_ids:
        check_tutorial(ports, api.xcom(TUTORIAL, run_ids[TUTORIAL], "mlflow_run_id"))
    _print(table)


def run_pipeline(console: Console, api: AirflowApi, ports: Ports) -> None:
    """Start the first DAG of the pipeline, and see the others follow, to a new champion's predictions."""
    for dag_id in PIPELINE:
        api.unpause(dag_id)
    # The first champion of all is an event only for a watch that has begun before.
    wait_for(console, lambda: [] if api.is_watched(CHAMPION) else [CHAMPION], PATIENCE, "is watched")

    table = _table()
    *stages, predict = PIPELINE
    since = api.dag_run(stages[0], api.trigger(stages[0]))["run_after"]
    for dag_id in stages:
        dag_run = _wait_for_dag_run(console, api, dag_id, since)
        _add_row(table, api, ports, dag_run)
        since = dag_run["run_after"]
    decision = api.xcom(stages[-1], dag_run["dag_run_id"], "return_value", "promote")
    if decision["promoted"]:
        _add_row(table, api, ports, _wait_for_dag_run(console, api, predict, since))
    _print(table)
    console.print("A new champion:" if decision["promoted"] else "The champion stays:", decision["reason"])


def _wait_for_dag_run(console: Console, api: AirflowApi, dag_id: str, since: str) -> dict[str, Any]:
    """Wait until the DAG's first run since a moment has ended, and return it.

    :raises LocalError: it does not come, or one of its tasks did not succeed.
    """

    def ended() -> dict[str, Any] | None:
        dag_run = api.first_dag_run(dag_id, since)
        return dag_run if dag_run and dag_run["end_date"] else None

    wait_for(console, lambda: [] if ended() else [dag_id], PATIENCE, "has run")
    if not (dag_run := ended()):
        raise LocalError(f"{dag_id} has not run within {PATIENCE} s; Airflow's page of it may tell why.")
    check_tasks(api, dag_id, dag_run["dag_run_id"])
    return dag_run


def _table() -> Table:
    return Table("DAG", "state", Column("seconds", justify="right"), "MLflow run", box=None)


def _add_row(table: Table, api: AirflowApi, ports: Ports, dag_run: dict[str, Any]) -> None:
    """Show a DAG run, with a link to the MLflow run of its first tracked task, or to the parent of all."""
    dag_id, state = dag_run["dag_id"], dag_run["state"]
    run = _run(ports, api.xcom(dag_id, dag_run["dag_run_id"], "mlflow_run_id"))
    info = run["info"]
    expect(dag_id, "status of the run", "FINISHED", info["status"])
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    run_id = tags.get("mlflow.parentRunId", info["run_id"])
    page = f"experiments/{info['experiment_id']}/runs/{run_id}?workflowType=machine_learning"
    link = f"http://localhost:{ports.mlflow}/#/{page}"
    table.add_row(dag_id, state, f"{dag_run['duration']:.0f}", link)


def _print(table: Table) -> None:
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
    response = requests.get(
        f"http://127.0.0.1:{ports.mlflow}/{path}", params=params, auth=mlflow_login.credentials(), timeout=60
    )
    if not response.ok:
        problem = f"MLflow answers {response.status_code} to {path} {params}"
        raise LocalError(f"What the DAGs should have left in MLflow cannot be had: {problem}.", response.text)
    return response
