"""A release, rehearsed: the built package in a package index, installed from there into a plain Airflow."""

from __future__ import annotations

import html
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from uv import find_uv_bin

from dev.tests.helpers.documentation import ROOT, blocks_run_by, code
from dev.waiting import wait_until
from local_stack.airflow_api import AirflowApi
from mlflow_servers import free_port

FROM_REPOSITORY, FROM_WHEEL, FROM_INDEX, CHECK = (
    block.code for block in blocks_run_by("dev/tests/release/test_release.py") if block.language == "bash"
)
BUILT = ROOT / ".local" / "nox" / "package" / "tmp"  # by `make -C dev package`
NOXFILE = runpy.run_path(str(ROOT / "provider" / "noxfile.py"))
CORNERS = {
    name: (NOXFILE["_interpreter"](python), *rest) for name, (python, *rest) in NOXFILE["CORNERS"].items()
}
DAG_ID, TASK_ID = "my_first_dag", "train"


@dataclass(frozen=True)
class PlainAirflow:
    """An Airflow without the provider, in its own environment."""

    folder: Path
    variables: dict[str, str]

    def run(self, commands: str) -> str:
        """Run shell commands, check that they succeed, and return their output."""
        process = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert process.returncode == 0, f"{commands}\n{process.stdout[-4000:]}"
        return process.stdout

    @contextmanager
    def standalone(self, port: int) -> Iterator[AirflowApi]:
        """Run ``airflow standalone`` for a block."""
        settings = {
            "API__PORT": port,
            "API__BASE_URL": f"http://localhost:{port}",
            "CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{port}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
            "LOGGING__TRIGGER_LOG_SERVER_PORT": free_port(),
            "LOGGING__WORKER_LOG_SERVER_PORT": free_port(),
        }
        variables = {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
        with (self.folder / "standalone.log").open("w") as log:
            process = subprocess.Popen(
                [self.folder / "venv/bin/airflow", "standalone"],
                env={**self.variables, **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        api = AirflowApi(port)
        try:
            wait_until("the api-server responds", lambda: api.log_in() or True)
            yield api
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


@pytest.fixture
def plain_airflow(request: pytest.FixtureRequest, tmp_path: Path) -> PlainAirflow:
    """The Airflow of a corner of the supported versions; by default the newest."""
    python, packages = CORNERS[getattr(request, "param", "newest")]
    users = ("AIRFLOW", "MLFLOW", "PYTHON", "VIRTUAL_ENV")
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(users)},
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "VIRTUAL_ENV": str(tmp_path / "venv"),
        "PATH": f"{tmp_path / 'venv/bin'}:{Path(find_uv_bin()).parent}:{os.environ['PATH']}",
    }
    airflow = PlainAirflow(tmp_path, variables)
    airflow.run(f"uv venv -q --python {python} venv")
    # uv accepts pip's arguments, and has a cache.
    pip = tmp_path / "venv" / "bin" / "pip"
    pip.write_text('#!/bin/sh\nexec uv pip "$@"\n')
    pip.chmod(0o755)
    airflow.run("uv pip install -q " + " ".join(f"'{package}'" for package in packages))
    return airflow


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a package index with the built package, uploaded as the workflow does."""
    folder, port = tmp_path_factory.mktemp("index"), free_port()
    tool = [find_uv_bin(), "tool", "run", "--quiet", "--python", sys.executable]
    options = ["-i", "127.0.0.1", "-p", str(port), "-a", ".", "-P", ".", "--disable-fallback"]
    server = subprocess.Popen([*tool, "--from", "pypiserver", "pypi-server", "run", *options, str(folder)])
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_until("the package index responds", lambda: requests.get(url, timeout=10).ok)
        upload = ["twine", "upload", "--repository-url", url, "-u", "", "-p", ""]
        subprocess.run([*tool, *upload, *BUILT.iterdir()], check=True)
        yield f"{url}simple/"
    finally:
        server.terminate()
        server.wait()


def and_keep_airflow(command: str) -> str:
    """Add what docs/start/install.md recommends."""
    return f'{command.rstrip()} "apache-airflow==$(airflow version)"\n'


@pytest.mark.parametrize("plain_airflow", CORNERS, indirect=True)
def test_a_release_runs_the_first_dag_and_has_buttons_and_pages(plain_airflow, index, mlflow_server):
    version = plain_airflow.run("airflow version 2>/dev/null")  # where 3.1.0 writes logs
    install = FROM_INDEX.replace("https://packages.example.com/simple/", index)
    plain_airflow.run(and_keep_airflow(install))
    assert plain_airflow.run("airflow version 2>/dev/null") == version
    assert plain_airflow.run(
        "airflow db migrate && " + CHECK.replace("http://localhost:5000", mlflow_server.url)
    )

    dags = plain_airflow.folder / "dags"
    dags.mkdir()
    (dags / f"{DAG_ID}.py").write_text(code("README.md", "A first DAG of your own", "python"))
    connection = f'{{"conn_type": "mlflow", "host": "{mlflow_server.url}"}}'
    plain_airflow.variables["AIRFLOW_CONN_MLFLOW_DEFAULT"] = connection
    port = free_port()
    with plain_airflow.standalone(port) as api:
        wait_until("the DAG is listed", lambda: api.call("GET", f"/api/v2/dags/{DAG_ID}"))
        run_id = api.trigger(DAG_ID)
        run = wait_until(
            "the DAG run has ended", lambda: api.dag_run(DAG_ID, run_id), lambda run: run["end_date"]
        )
        assert run["state"] == "success"

        task = f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{TASK_ID}"
        links = api.call("GET", f"{task}/links")["extra_links"]
        assert set(links) == {"MLflow run", "MLflow experiment"}
        assert all(link.startswith(mlflow_server.url) for link in links.values())
        views = {
            view["destination"]: view["href"]
            for plugin in api.call("GET", "/api/v2/plugins")["plugins"]
            for view in plugin["external_views"]
            if view["name"] == "MLflow"
        }
        assert set(views) == {"nav", "dag_run"}
        tab = views["dag_run"].replace("{DAG_ID}", DAG_ID).replace("{RUN_ID}", run_id)
        if version == "3.1.0\n":  # shows no pages
            return
        cookies = {"_token": api.call("GET", "/auth/token")["access_token"]}
        page = requests.get(f"http://localhost:{port}{tab}", cookies=cookies, timeout=60)
        assert links["MLflow run"] in html.unescape(page.text)


@pytest.mark.parametrize("command", [FROM_REPOSITORY, FROM_WHEEL], ids=["repository", "wheel"])
def test_the_provider_can_be_installed_from(command, plain_airflow):
    command = command.replace("https://github.com/<owner>/<repository>", f"file://{ROOT}")
    plain_airflow.run(and_keep_airflow(command.replace("./airflow_provider", f"{BUILT}/airflow_provider")))

    assert "airflow-provider-mlflow" in plain_airflow.run("airflow providers list -o plain")
