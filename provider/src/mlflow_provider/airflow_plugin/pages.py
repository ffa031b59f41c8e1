"""The pages that the plugin adds to Airflow. All read the connection ``mlflow_default``."""

from __future__ import annotations

from html import escape
from string import Template
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.tracked_run import runs

MAX_RUNS = 100
MAX_METRICS = 4  # per run; MLflow shows the others

# For those who may see DAG runs: of one DAG where the path names it, otherwise of all DAGs.
app = FastAPI(openapi_url=None, dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])


@app.get("/")
def newest_runs() -> HTMLResponse:
    """Show the newest runs that tasks of Airflow have logged."""
    return _page("tags.`airflow.task_id` LIKE '%'")


@app.get("/open", response_class=RedirectResponse)
def open_mlflow() -> Response:
    """Redirect to MLflow, so that a link to this page need not know where MLflow is."""
    try:
        return RedirectResponse(MLflowClientHook().connection.ui_url)
    except MLflowProviderError as error:
        return _error_page(error)


@app.get("/dags/{dag_id}/runs/{run_id}")
def runs_of_dag_run(dag_id: str, run_id: str) -> HTMLResponse:
    """Show the runs that the tasks of a DAG run have logged."""
    return _page(runs.of_dag_run(dag_id, run_id))


def _page(filter_string: str) -> HTMLResponse:
    hook = MLflowClientHook()
    try:
        found = runs.search(hook, filter_string, newest_first=True, max_results=MAX_RUNS)
    except MLflowProviderError as error:
        return _error_page(error)
    message = "" if found else "No MLflow run yet; tasks with @task.mlflow log one."
    rows = "".join(_row(hook, run) for run in found)
    return HTMLResponse(PAGE.substitute(address=escape(hook.connection.ui_url), message=message, rows=rows))


def _error_page(error: MLflowProviderError) -> HTMLResponse:
    return HTMLResponse(PAGE.substitute(address="", message=escape(str(error)), rows=""), status_code=502)


def _row(hook: MLflowClientHook, run: dict[str, Any]) -> str:
    info, tags = run["info"], runs.tags_of(run)
    link = hook.connection.page(f"experiments/{info['experiment_id']}/runs/{info['run_id']}")
    metrics = [f"{metric['key']} {metric['value']:.4g}" for metric in run["data"].get("metrics", [])]
    cells = (
        f'<a href="{escape(link)}">{escape(info["run_name"])}</a>',
        escape(tags.get("airflow.dag_id", "")),
        escape(tags.get("airflow.task_id", "")),
        info["status"],
        escape(tags.get(runs.REASON, "") or ", ".join(metrics[:MAX_METRICS])),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


# Airflow shows the page in a frame that may not open windows; the page around the frame may.
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>MLflow runs</title>
<style>
:root { color-scheme: light dark; }
body { font: 14px system-ui, sans-serif; margin: 1.5rem; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .4rem 1.5rem .4rem 0; border-bottom: 1px solid #8884; }
</style>
</head>
<body>
<p><a href="$address">Open MLflow</a></p>
<p>$message</p>
<table>
<tr><th>MLflow run</th><th>DAG</th><th>Task</th><th>Status</th><th>Metrics</th></tr>
$rows
</table>
<script>
document.addEventListener("click", event => {
  const link = event.target.closest("a");
  if (link && parent !== window) { event.preventDefault(); parent.open(link.href, "_blank", "noopener"); }
});
</script>
</body>
</html>
""")
