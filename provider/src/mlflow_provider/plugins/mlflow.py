"""MLflow in Airflow's UI: an entry in the navigation, and on a DAG run a tab with its MLflow runs."""

from __future__ import annotations

from typing import Any

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from mlflow_provider.listeners import failures, preload
from mlflow_provider.plugins.urls import AIRFLOW_PATH, PREFIX

_BASE = AIRFLOW_PATH + PREFIX


async def _pages(scope: Any, receive: Any, send: Any) -> None:
    """Serve :mod:`mlflow_provider.plugins.pages`, imported late.

    Every process of Airflow loads this module, but only the API server serves pages.
    """
    from mlflow_provider.plugins.pages import app

    await app(scope, receive, send)


class MLflowPlugin(AirflowPlugin):
    """Airflow 3.1.0 does not show these pages in a browser (it requires a login); later versions do."""

    name = "mlflow"
    listeners = [failures, preload]
    fastapi_apps = [{"name": "MLflow", "app": _pages, "url_prefix": PREFIX}]
    if conf.getboolean("mlflow", "enabled", fallback=True):
        external_views = [
            {"name": "MLflow", "href": f"{_BASE}/", "destination": "nav", "url_route": "mlflow"},
            {
                "name": "MLflow",
                "href": f"{_BASE}/dags/{{DAG_ID}}/runs/{{RUN_ID}}",
                "destination": "dag_run",
                "url_route": "mlflow-runs",
            },
        ]
