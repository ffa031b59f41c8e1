"""Run the lessons and the pipeline, and check their results in MLflow."""

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
_LESSONS = (TUTORIAL, "mlflow_hook_dag", "mlflow_operator_dag", "mlflow_package_dag", "mlflow_task_dag")
# People who build on this project delete lessons.
DAG_IDS = tuple(dag_id for dag_id in _LESSONS if (settings.DAGS / f"{dag_id}.py").exists())
PIPELINE = ("pipeline_1_features", "pipeline_2_train", "pipeline_3_promote", "pipeline_4_predict")
CHAMPION = "housing_champion"  # an asset that Airflow's triggerer watches
TIMEOUT = 600  # seconds for the lessons, or for a stage of the pipeline; usually a twentieth is enough


def run(console: Console, ports: Ports) -> None:
    """Run the lessons, then the pipeline; check the results, and print a table of each.

    :raises LocalError: a task failed, or MLflow does not have what the tutorial promises.
    """
    api = AirflowApi(ports.airflow)
    api.log_in()
    if DAG_IDS:
        run_lessons(console, api, ports)
    if all((settings.DAGS / f"{dag_id}.py").exists() for dag_id in PIPELINE):
        run_pipeline(console, api, ports)


def run_lessons(console: Console, api: AirflowApi, ports: Ports) -> None:
    """Run the lessons in parallel."""
    run_ids = {dag_id: api.trigger(dag_id) for dag_id in DAG_IDS}

    def find_unfinished() -> list[str]:
        return [dag_id for dag_id, run_id in run_ids.items() if not api.dag_run(dag_id, run_id)["end_date"]]

    wait_for(console, find_unfinished, TIMEOUT, "has finished")
    table = _table()
    for dag_id, run_id in run_ids.items():
        check_tasks(api, dag_id, run_id)
        _add_row(table, ports, api.dag_run(dag_id, run_id))
    if TUTORIAL in run_ids:
        check_tutorial(ports, _last_run(ports, TUTORIAL, run_ids[TUTORIAL]))
    _print(table)


def run_pipeline(console: Console, api: AirflowApi, ports: Ports) -> None:
    """Trigger the first DAG of the pipeline, and wait for the others, which start each other."""
    for dag_id in PIPELINE:
        api.unpause(dag_id)
    # The watch ignores a champion that was there when it began.
    wait_for(console, lambda: [] if api.is_watched(CHAMPION) else [CHAMPION], TIMEOUT, "is watched")

    table = _table()
    *stages, predict = PIPELINE
    since = api.dag_run(stages[0], api.trigger(stages[0]))["run_after"]
    for dag_id in stages:
        dag_run = _wait_for_dag_run(console, api, dag_id, since)
        _add_row(table, ports, dag_run)
        since = dag_run["run_after"]
    decision = api.xcom(stages[-1], dag_run["dag_run_id"], "return_value", "promote")
    if decision["promoted"]:
        _add_row(table, ports, _wait_for_dag_run(console, api, predict, since))
    _print(table)
    console.print("A new champion:" if decision["promoted"] else "The champion stays:", decision["reason"])


def _wait_for_dag_run(console: Console, api: AirflowApi, dag_id: str, since: str) -> dict[str, Any]:
    """Wait until the DAG's first run since a time has ended, and return it.

    :raises LocalError: it did not start or end in time, or a task failed.
    """

    def find_ended() -> dict[str, Any] | None:
        dag_run = api.first_dag_run(dag_id, since)
        return dag_run if dag_run and dag_run["end_date"] else None

    wait_for(console, lambda: [] if find_ended() else [dag_id], TIMEOUT, "has finished")
    if not (dag_run := find_ended()):
        raise LocalError(f"{dag_id} did not finish within {TIMEOUT} s. Check the DAG's page in Airflow.")
    check_tasks(api, dag_id, dag_run["dag_run_id"])
    return dag_run


def _table() -> Table:
    return Table("DAG", "state", Column("seconds", justify="right"), "MLflow run", box=None)


def _add_row(table: Table, ports: Ports, dag_run: dict[str, Any]) -> None:
    """Add a DAG run, with a link to its last MLflow run, or to the parent of that run."""
    dag_id, state = dag_run["dag_id"], dag_run["state"]
    run = _last_run(ports, dag_id, dag_run["dag_run_id"])
    info = run["info"]
    check(dag_id, "status of the run", "FINISHED", info["status"])
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    run_id = tags.get("mlflow.parentRunId", info["run_id"])
    page = f"experiments/{info['experiment_id']}/runs/{run_id}"
    link = f"http://localhost:{ports.mlflow}/#/{page}?workflowType=machine_learning"
    if not ports.mlflow:
        link = _own_mlflow().connection.page(page)
    table.add_row(dag_id, state, f"{dag_run['duration']:.0f}", link)


def _print(table: Table) -> None:
    # Wider than most terminals, because a truncated link does not work.
    Console(width=200, highlight=False).print(table)


def check_tasks(api: AirflowApi, dag_id: str, run_id: str) -> None:
    """Check that every task instance of the DAG run succeeded."""
    failed = [task for task in api.task_instances(dag_id, run_id) if task["state"] != "success"]
    if failed:
        # The first one has the reason; those after it never started.
        task = min(failed, key=lambda task: task["start_date"] or "never")
        message = f"{dag_id}: task {task['task_id']} ended as {task['state']}, expected success."
        raise LocalError(message, api.log(dag_id, run_id, task))


def check_tutorial(ports: Ports, run: dict[str, Any]) -> None:
    """Check the run, its artifacts and the registered model of the tutorial."""
    check(TUTORIAL, "name of the run", "Scaler", run["info"]["run_name"])
    for name in ("features.csv", "scaled_features.csv"):
        parameters = {"run_uuid": run["info"]["run_id"], "path": name}
        lines = _call(ports, "GET", "get-artifact", parameters).text.splitlines()
        check(TUTORIAL, f"rows of {name}", 2930, len(lines) - 1)
    path = "api/2.0/mlflow/registered-models/get"
    model = _call(ports, "GET", path, {"name": "Housing"}).json()["registered_model"]
    tags = {tag["key"]: tag["value"] for tag in model.get("tags", [])}
    # An exercise adds a third one.
    for name, value in {"model_type": "regression", "data": "housing"}.items():
        check(TUTORIAL, f"tag {name} of the registered model", value, tags.get(name))


def check(dag_id: str, name: str, expected: object, actual: object) -> None:
    """Compare a value in MLflow with the one that a DAG promises."""
    if actual != expected:
        raise LocalError(f"{dag_id}: {name} in MLflow: expected {expected!r}, got {actual!r}.")


def _last_run(ports: Ports, dag_id: str, dag_run_id: str) -> dict[str, Any]:
    """Return the last MLflow run that a DAG run started.

    :raises LocalError: it started none.
    """
    path = "api/2.0/mlflow/experiments/search"
    experiments = _call(ports, "POST", path, {"max_results": 1000}).json()["experiments"]
    search = {
        "experiment_ids": [experiment["experiment_id"] for experiment in experiments],
        "filter": f"tags.`airflow.dag_id` = '{dag_id}' AND tags.`airflow.run_id` = '{dag_run_id}'",
        "order_by": ["attributes.start_time DESC"],
        "max_results": 1,
    }
    runs = _call(ports, "POST", "api/2.0/mlflow/runs/search", search).json().get("runs")
    if not runs:
        raise LocalError(f"{dag_id}: MLflow has no run of the DAG run {dag_run_id}.")
    return runs[0]


def _call(ports: Ports, method: str, path: str, params: dict[str, Any]) -> requests.Response:
    if not ports.mlflow:
        response = _own_mlflow(method).run(path, request_params=params)
    else:
        url = f"http://127.0.0.1:{ports.mlflow}/{path}"
        arguments: Any = {"params" if method == "GET" else "json": params}
        response = requests.request(method, url, auth=mlflow_login.credentials(), timeout=60, **arguments)
    if not response.ok:
        raise LocalError(f"{path} {params}: MLflow returned {response.status_code}.", response.text)
    return response


def _own_mlflow(method: str = "GET") -> Any:
    """Return a hook for the MLflow in ``.env``, which may require any kind of login."""
    from mlflow_provider.hooks.client import MLflowClientHook  # takes seconds

    return MLflowClientHook(method)
