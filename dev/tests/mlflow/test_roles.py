"""Airflow's pages about MLflow with real roles: an API server with the auth manager of FAB."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import requests
from uv import find_uv_bin

from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.plugins.pages import NEWEST_RUNS
from mlflow_provider.server.connection import MLflowConnection
from mlflow_provider.tracking import runs
from mlflow_proxy import wait_until
from mlflow_servers import free_port

PROVIDER = Path(__file__).resolve().parents[3] / "provider"
DAG_IDS = ("busy", "quiet", "idle")
# Creates these DAGs, a user without rights, one for each DAG, a viewer and an administrator.
SET_UP = f"""
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.session import create_session

with create_session() as session:
    session.add(DagBundleModel(name="tests"))
with create_session() as session:
    for dag_id in {DAG_IDS}:
        session.add(DagModel(dag_id=dag_id, bundle_name="tests", fileloc=""))
with get_application_builder() as builder:
    manager = builder.sm
    manager.sync_roles()
    manager.add_role("nobody")
    for dag_id in {DAG_IDS}:
        permissions = [("can_read", f"DAG:{{dag_id}}"), ("can_read", "DAG Runs")]
        manager.bulk_sync_roles([{{"role": dag_id, "perms": permissions}}])
    for role in ("nobody", *{DAG_IDS}, "Viewer", "Admin"):
        assert manager.add_user(role, role, role, f"{{role}}@example.com", manager.find_role(role), "secret")
"""


@pytest.fixture(scope="module")
def airflow_url(mlflow_server, tmp_path_factory) -> Iterator[str]:
    """The address of an API server in its own environment, because FAB would slow down all other tests."""
    home = tmp_path_factory.mktemp("airflow")
    python = home / "venv" / "bin" / "python"
    uv = [find_uv_bin(), "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, home / "venv"], check=True)
    packages = [f"apache-airflow=={version('apache-airflow')}", f"mlflow-skinny=={version('mlflow-skinny')}"]
    packages += ["apache-airflow-providers-fab", str(PROVIDER)]
    subprocess.run([*uv, "pip", "install", "--python", python, *packages], check=True)
    port = free_port()
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__MLFLOW__INSTANCE": "roles",
        "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "mlflow", **mlflow_server.connection}),
    }
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")
    } | settings
    subprocess.run([python, "-m", "airflow", "db", "migrate"], env=environment, check=True)
    subprocess.run([python, "-c", SET_UP], env=environment, check=True)
    url = f"http://127.0.0.1:{port}"
    with (home / "log").open("w") as log:
        command = [python, "-m", "airflow", "api-server"]
        api_server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until("the API server responds", lambda: responds(f"{url}/api/v2/version"), seconds=300)
        yield url
    finally:
        api_server.terminate()
        api_server.wait(60)


def responds(url: str) -> bool:
    try:
        return requests.get(url, timeout=10).ok
    except requests.RequestException:
        return False


def get(airflow_url: str, user: str, path: str) -> requests.Response:
    """Get a page as a browser of a user does."""
    login = {"username": user, "password": "secret"}
    token = requests.post(f"{airflow_url}/auth/token", json=login, timeout=60).json()["access_token"]
    return requests.get(f"{airflow_url}/mlflow{path}", cookies={"_token": token}, timeout=60)


@pytest.fixture(scope="module", autouse=True)
def _mlflow_runs(mlflow_server) -> None:
    """A run of the quiet DAG, and then more of the busy one than the page searches."""
    hook = MLflowClientHook.for_connection(MLflowConnection("mlflow_default", mlflow_server.url))
    experiment_id = hook.get_or_create_experiment("Roles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__MLFLOW__INSTANCE", "roles")
        for dag_id in ("quiet", *["busy"] * NEWEST_RUNS):
            runs.create(hook, experiment_id, f"run of {dag_id}", runs.dag_run_tags(dag_id, "manual"), {})


@pytest.mark.parametrize(
    ("user", "dag_ids"),
    [
        ("nobody", None),
        ("busy", {"busy"}),
        ("quiet", {"quiet"}),
        ("idle", set()),
        ("Viewer", {"busy"}),  # among the newest
        ("Admin", {"busy"}),
    ],
)
def test_users_see_the_newest_runs_of_the_dags_that_they_may_read(airflow_url, user, dag_ids):
    page = get(airflow_url, user, "/")

    shown = set(re.findall(">run of (.*?)</a>", page.text))
    assert (page.status_code, shown) == ((403, set()) if dag_ids is None else (200, dag_ids))


@pytest.mark.parametrize("dag_id", DAG_IDS)
@pytest.mark.parametrize("user", ["nobody", "busy", "quiet", "idle", "Viewer", "Admin"])
def test_users_see_the_tab_of_the_dags_that_they_may_read(airflow_url, user, dag_id):
    is_allowed = user in (dag_id, "Viewer", "Admin")

    page = get(airflow_url, user, f"/dags/{dag_id}/runs/manual")

    assert page.status_code == (200 if is_allowed else 403)
    assert (f"run of {dag_id}" in page.text) == (is_allowed and dag_id != "idle")
