"""The pages that the plugin adds to Airflow.

They use the connection ``mlflow_default``, and those of the tasks that the browser finds in Airflow's API.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader

from mlflow_provider.exceptions import (
    MLflowAPIError,
    MLflowConfigurationError,
    MLflowNotFoundError,
    MLflowProviderError,
    MLflowUnreachableError,
)
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.links.mlflow import model_page
from mlflow_provider.plugins.urls import AIRFLOW_PATH
from mlflow_provider.server.deadline import run_with_timeout
from mlflow_provider.server.limits import OUTSIDE_TASK
from mlflow_provider.tracking import runs
from mlflow_provider.tracking.runs import Run

if TYPE_CHECKING:
    from mlflow_provider.server.connection import MLflowConnection

log = logging.getLogger(__name__)

NEWEST_RUNS = 200  # MLflow needs a second or longer for more, and the page times out after five
MAX_RUNS_OF_DAG_RUN = 500
ENOUGH_ROWS = 50  # of DAGs that the user may read; for fewer, each of the DAGs is searched
DAG_ID = "airflow.dag_id"
MAX_METRICS = 4  # per run; MLflow shows the others
MAX_SERVERS = 10  # on a page
DEFAULT_CONN_IDS = [MLflowClientHook.default_conn_name]
ConnIds = Annotated[list[str], Query(alias="conn_id")]
AIRFLOW_API = f"{AIRFLOW_PATH}/api/v2"
NEWEST_FIRST = ["attributes.start_time DESC"]

PAGE = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("page.html")

# For users who may see DAG runs: those of the DAG in the path, otherwise DAG runs in general.
app = FastAPI(openapi_url=None, dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])


@app.get("/")
def newest_runs(user: GetUserDep, conn_ids: ConnIds = DEFAULT_CONN_IDS) -> HTMLResponse:
    """Show the newest runs of this Airflow's tasks, for the DAGs that the user may read."""
    dag_ids = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    tasks = f"{AIRFLOW_API}/dags/~/dagRuns/~/taskInstances"
    return _page(conn_ids, tasks, runs.instance_filter(), dag_ids, NEWEST_RUNS)


@app.get("/dags/{dag_id}/runs/{run_id}")
def runs_of_dag_run(dag_id: str, run_id: str, conn_ids: ConnIds = DEFAULT_CONN_IDS) -> HTMLResponse:
    """Show the runs of a DAG run's tasks."""
    tasks = f"{AIRFLOW_API}/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}/taskInstances"
    return _page(conn_ids, tasks, runs.dag_run_filter(dag_id, run_id), [dag_id], MAX_RUNS_OF_DAG_RUN)


@app.get("/open")
def open_mlflow() -> RedirectResponse:
    """Redirect to MLflow; links to this page need not know its address."""
    return RedirectResponse(MLflowClientHook().connection.page(""))


@app.get("/open/experiments/{name:path}")
def open_experiment(name: str) -> Response:
    """Redirect to the runs of an experiment."""
    hook = MLflowClientHook().with_limits(OUTSIDE_TASK, reread_login=False)
    get = partial(hook.call, "GET", "experiments/get-by-name", {"experiment_name": name})
    try:
        experiment_id = run_with_timeout(get)["experiment"]["experiment_id"]
    except MLflowNotFoundError:
        error = f"MLflow has no experiment {name!r} yet. Run a DAG that logs to it."
        return _html(404, servers=[{"title": "Not found", "error": error}])
    return RedirectResponse(hook.connection.page(f"experiments/{experiment_id}"))


@app.get("/open/models/{name}")
def open_model(name: str) -> RedirectResponse:
    """Redirect to a registered model."""
    return RedirectResponse(MLflowClientHook().connection.page(model_page(name)))


@app.exception_handler(MLflowProviderError)
def _error_page(_request: Request, error: Exception) -> HTMLResponse:
    return _html(502, servers=[_error(error)])


def _error(error: Exception) -> dict[str, Any]:
    """Return what the page shows instead of runs."""
    log.warning("%s", error)
    shown = str(error)
    if isinstance(error, MLflowAPIError) and not (error.finding and error.finding.fix):
        # Its message may be a page of SQL, which is not for everyone who may see DAG runs.
        status = f"{error.status_code} {error.error_code or ''}".strip()
        shown = f"{status}; the log of Airflow's API server has the message of MLflow."
    is_misconfigured = isinstance(error, MLflowConfigurationError)
    return {"title": "MLflow did not respond", "error": shown, "is_misconfigured": is_misconfigured}


def _html(status: int, **content: Any) -> HTMLResponse:
    # A server may send half a surrogate pair, which UTF-8 does not have.
    page = PAGE.render(content).encode(errors="replace")
    return HTMLResponse(page, status, headers={"Cache-Control": "no-store"})


def _page(conn_ids: Sequence[str], tasks: str, *search: Any) -> HTMLResponse:
    """Show the runs on one or more servers.

    :param tasks: address in Airflow's API of the task instances that the page is about. They know their
        connections, and whether something is running.
    :param search: arguments of :func:`_search`.
    """
    servers = [_search_or_error(conn_id, *search) for conn_id in conn_ids[:MAX_SERVERS]]
    if list(conn_ids) != DEFAULT_CONN_IDS:  # users who may see DAG runs may not see which others exist
        servers = [server for server in servers if not server.get("is_misconfigured")]
    status = 502 if any("error" in server for server in servers) else 200
    return _html(status, servers=servers, tasks=tasks)


def _search_or_error(conn_id: str, *search: Any) -> dict[str, Any]:
    try:
        return _search(conn_id, *search)
    except MLflowProviderError as error:
        return _error(error)


def _search(conn_id: str, filter_string: str, dag_ids: Collection[str], max_runs: int) -> dict[str, Any]:
    """Return what the page shows of a server."""
    deadline = time.monotonic() + OUTSIDE_TASK.timeout
    # This reads the connection here; the threads must not.
    hook = MLflowClientHook(mlflow_conn_id=conn_id).with_limits(OUTSIDE_TASK, reread_login=False)
    found = run_with_timeout(partial(hook.search_experiments, max_results=runs.MAX_EXPERIMENTS))
    experiments = {experiment["experiment_id"]: experiment["name"] for experiment in found}

    def search(filter_string: str, max_runs: int) -> list[dict[str, Any]]:
        query = partial(hook.search_runs, list(experiments), filter_string, NEWEST_FIRST, max_runs)
        found = run_with_timeout(query, deadline - time.monotonic())
        return [_row(hook.connection, experiments, run) for run in found]

    newest = search(filter_string, max_runs)
    rows = [row for row in newest if row["dag_id"] in (None, *dag_ids)]
    searched = f"Only the newest {max_runs} runs were searched" if len(newest) == max_runs else ""
    slow_dags: list[str] = []
    if searched and dag_ids and sum("run_id" in row for row in rows) < ENOUGH_ROWS:
        # Runs of other DAGs fill the newest.
        per_dag = max(1, max_runs // len(dag_ids))
        searched += f", and up to {per_dag} of each DAG"
        slow_dags = sorted(dag_ids)
        with suppress(MLflowUnreachableError):
            while slow_dags:
                dag_filter = runs.tag_filter({DAG_ID: slow_dags[0]})
                older = search(f"{filter_string} AND {dag_filter}", per_dag)
                rows += [row for row in older if row["dag_id"] in dag_ids and row not in rows]
                del slow_dags[0]
    return {
        "mlflow": hook.connection.page(""),
        "rows": _below_their_parents(rows),
        "searched": searched,
        "slow_dags": slow_dags,
    }


def _row(
    connection: MLflowConnection, experiments: Mapping[str, str], api_run: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the cells of a run, or why it cannot be shown."""
    dag_id = None
    try:
        run = Run.from_api(api_run)
        dag_id = run.tags.get(DAG_ID)
        if not dag_id:
            return {"dag_id": None, "error": f"it has no tag {DAG_ID}"}
        return {
            "dag_id": dag_id,
            "run_id": run.run_id,
            "parent_id": run.tags.get(runs.PARENT_RUN_ID),
            "name": run.name,
            "page": connection.page(run.page),
            "status": run.status,
            "start": datetime.fromtimestamp(run.start_time / 1000, timezone.utc),
            "experiment": experiments.get(run.experiment_id, run.experiment_id),
            "experiment_page": connection.page(f"experiments/{run.experiment_id}"),
            "reason": run.tags.get(runs.REASON),
            "metrics": _metrics(run.metrics),
            **_places_in_airflow(dag_id, run.tags),
        }
    except Exception as error:  # noqa: BLE001  # whatever is wrong with one run, the others are shown
        return {"dag_id": dag_id, "error": error}


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {_number(value)}" for key, value in list(metrics.items())[:MAX_METRICS])


def _number(value: float) -> str:
    """Format a number with four digits, and with all digits before the point up to a billion."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


def _places_in_airflow(dag_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the task and the try of a run, and the pages of its DAG run and its try."""
    task_id, run_id = tags.get("airflow.task_id", ""), tags.get("airflow.run_id", "")
    dag_run = f"{AIRFLOW_PATH}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
    map_index = tags.get("airflow.map_index", "-1")
    mapped = "" if map_index == "-1" else f"/mapped/{quote(map_index, safe='')}"
    task = f"{dag_run}/tasks/{quote(task_id, safe='')}"
    try_number = tags.get(runs.TRY_NUMBER, "")
    return {
        "dag_page": dag_run,
        "task_id": task_id,
        "task_page": f"{task}{mapped}?try_number={quote(try_number, safe='')}",
        "map_index": mapped and f"[{map_index}]",
        "try_number": try_number,
    }


def _below_their_parents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with children below their parents, and the depth of each.

    :param rows: the newest first. A parent is older than its children.
    """
    ordered: list[dict[str, Any]] = []
    older: dict[str, dict[str, Any]] = {}
    for row in reversed(rows):
        parent = older.get(row.get("parent_id") or "")
        row["depth"] = parent["depth"] + 1 if parent else 0
        ordered.insert(ordered.index(parent) + 1 if parent else 0, row)
        if "run_id" in row:
            older[row["run_id"]] = row
    return ordered
