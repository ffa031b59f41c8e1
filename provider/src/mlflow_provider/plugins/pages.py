"""The pages that the plugin adds to Airflow; they use the connection ``mlflow_default``."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.plugins.urls import AIRFLOW_PATH
from mlflow_provider.server.deadline import run_with_timeout
from mlflow_provider.server.limits import OUTSIDE_TASK
from mlflow_provider.tracking import runs
from mlflow_provider.tracking.run import Run

if TYPE_CHECKING:
    from mlflow_provider.server.connection import MLflowConnection

NEWEST_RUNS = 200  # MLflow needs a second or longer for more, and the page times out after five
MAX_RUNS_OF_DAG_RUN = 500
MAX_METRICS = 4  # per run; MLflow shows the others

PAGE = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("page.html")

log = logging.getLogger(__name__)

# For users who may see DAG runs: those of the DAG in the path, otherwise DAG runs in general.
app = FastAPI(openapi_url=None, dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])


@app.get("/")
def newest_runs(user: GetUserDep) -> HTMLResponse:
    """Show the newest runs of this Airflow's tasks, for the DAGs that the user may read."""
    dag_ids = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    return _page(runs.instance_filter(), dag_ids, NEWEST_RUNS)


@app.get("/dags/{dag_id}/runs/{run_id}")
def runs_of_dag_run(dag_id: str, run_id: str) -> HTMLResponse:
    """Show the runs of a DAG run's tasks."""
    return _page(runs.dag_run_filter(dag_id, run_id), [dag_id], MAX_RUNS_OF_DAG_RUN)


@app.get("/open")
def open_mlflow() -> RedirectResponse:
    """Redirect to MLflow; links to this page need not know its address."""
    return RedirectResponse(MLflowClientHook().connection.page(""))


@app.exception_handler(MLflowProviderError)
def _error_page(_request: Request, error: Exception) -> HTMLResponse:
    return HTMLResponse(PAGE.render(error=error), status_code=502)


def _page(filter_string: str, dag_ids: Collection[str], max_runs: int) -> HTMLResponse:
    # This reads the connection here; the thread must not.
    hook = MLflowClientHook().with_limits(OUTSIDE_TASK, reread_login=False)
    connection = hook.connection
    newest, experiments = run_with_timeout(lambda: _query(hook, filter_string, max_runs))
    rows = [_row(connection, experiments, run) for run in newest]
    visible = [row for row in rows if row.get("dag_id") in dag_ids or "error" in row]
    return HTMLResponse(PAGE.render(mlflow=connection.page(""), rows=_below_their_parents(visible)))


def _query(
    hook: MLflowClientHook, filter_string: str, max_runs: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the newest runs, as MLflow's API describes them, and the experiments' names by ID."""
    experiments = hook.search_experiments(max_results=runs.MAX_EXPERIMENTS)
    names = {experiment["experiment_id"]: experiment["name"] for experiment in experiments}
    return hook.search_runs(list(names), filter_string, ["attributes.start_time DESC"], max_runs), names


def _row(
    connection: MLflowConnection, experiments: Mapping[str, str], api_run: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the cells of a run, or an error message if the run is malformed."""
    try:
        run = Run.from_api(api_run)
        return {
            "children": [],
            "run_id": run.run_id,
            "parent_id": run.tags.get(runs.PARENT_RUN_ID),
            "name": run.name,
            "page": connection.page(run.page),
            "status": run.status,
            "start": datetime.fromtimestamp(run.start_time / 1000, timezone.utc),
            "experiment": experiments.get(run.experiment_id, run.experiment_id),
            "experiment_page": connection.page(f"experiments/{run.experiment_id}"),
            "result": run.tags.get(runs.REASON) or _metrics(run.metrics),
            **_places_in_airflow(run.tags),
        }
    except Exception:
        log.warning("The pages cannot show this MLflow run: %s", api_run, exc_info=True)
        return {"error": "This run cannot be shown; the log of Airflow's API server has the reason."}


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {_number(value)}" for key, value in list(metrics.items())[:MAX_METRICS])


def _number(value: float) -> str:
    """Format a number with four digits, and with all digits before the point up to a billion."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


def _places_in_airflow(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the IDs of a run's DAG and task, and the pages of its DAG run and task instance."""
    dag_id, task_id = tags["airflow.dag_id"], tags.get("airflow.task_id", "")
    dag_run = f"{AIRFLOW_PATH}/dags/{quote(dag_id)}/runs/{quote(tags.get('airflow.run_id', ''))}"
    map_index = tags.get("airflow.map_index", "-1")
    mapped = "" if map_index == "-1" else f"/mapped/{map_index}"
    return {
        "dag_id": dag_id,
        "dag_page": dag_run,
        "task_id": task_id,
        "task_page": f"{dag_run}/tasks/{quote(task_id)}{mapped}",
        "map_index": mapped and f"[{map_index}]",
    }


def _below_their_parents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Attach rows to their parents and return those without a parent on the page.

    :param rows: the newest first. A parent is older than its children.
    """
    older: dict[str, dict[str, Any]] = {}
    top: list[dict[str, Any]] = []
    for row in reversed(rows):
        parent = older.get(row.get("parent_id", ""))
        (parent["children"] if parent else top).insert(0, row)
        older[row.get("run_id", "")] = row
    return top
