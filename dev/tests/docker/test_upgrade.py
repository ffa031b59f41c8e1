"""A newer MLflow upgrades the database of an older one."""

from __future__ import annotations

import subprocess

from dev.tests.helpers.artifacts import mlflow_client
from local_stack.install import fetch_uv
from mlflow_servers import free_port

OLDER = "3.9.*"
LOG = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
run = client.create_run(client.create_experiment("Older"))
client.log_metric(run.info.run_id, "rmse", 27000)
client.set_terminated(run.info.run_id)
print(run.info.run_id)
"""


def test_a_run_of_an_older_mlflow_is_kept(alone, tmp_path, monkeypatch):
    alone.down("--volumes")
    port = free_port()
    published = tmp_path / "published.yaml"
    published.write_text(f"services: {{ mlflow-postgres: {{ ports: ['127.0.0.1:{port}:5432'] }} }}")
    alone.start_containers("mlflow-postgres", over=published, wait=True)
    database = f"postgresql+psycopg2://mlflow:mlflow-demo-secret@127.0.0.1:{port}/mlflow"
    run_id = _run_by_an_older_mlflow(database)

    alone.up("mlflow")

    # Not by the server, which upgrades only if tables are missing, and fails if columns are.
    assert "Updating database tables" in alone.log("mlflow-db-upgrade")
    assert "Updating database tables" not in alone.log("mlflow")
    run = mlflow_client(alone.ports["MLFLOW_PORT"], monkeypatch).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"rmse": 27000}


def _run_by_an_older_mlflow(database: str) -> str:
    packages = (f"mlflow-skinny=={OLDER}", "sqlalchemy", "alembic", "psycopg2-binary")
    process = subprocess.run(
        [
            *(fetch_uv(), "run", "--no-project", "--quiet"),
            *(f"--with={package}" for package in packages),
            *("python", "-c", LOG, database),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()[-1]
