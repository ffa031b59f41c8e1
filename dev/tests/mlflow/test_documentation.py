"""Run the Python examples of the documentation against an MLflow server.

Each block must import what it uses. A block with tasks runs as a DAG, any other as a script.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from dev.tests.helpers.documentation import PYTHON_RUNNER, Block, blocks_run_by, code
from mlflow_servers import MLflowServer, run_mlflow_server

PYTHON = [block for block in blocks_run_by(PYTHON_RUNNER) if block.language == "python"]
# Files that another block of the page starts; not DAGs or tests themselves.
SCRIPTS = [block for block in PYTHON if block.file_name and "airflow" not in block.code]
EXAMPLES = [block for block in PYTHON if block not in SCRIPTS]


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """A server with the registered model of the examples, ``Housing``; each version is better."""
    with run_mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        client = MlflowClient(server.url)
        client.create_registered_model("Housing")
        for rmse in (38_000, 36_000, 34_000, 32_000, 30_000):  # USD
            run_id = client.create_run("0").info.run_id
            client.log_metric(run_id, "test_rmse", rmse)
            client.create_model_version("Housing", f"s3://bucket/{run_id}", run_id=run_id)
        yield server


@pytest.fixture(autouse=True)
def _registry(mlflow_server: MLflowServer) -> None:
    """The state each example expects: version 4 of ``Housing`` is champion, ``Demand`` is not registered."""
    client = MlflowClient(mlflow_server.url)
    client.set_registered_model_alias("Housing", "champion", "4")
    if client.search_registered_models("name = 'Demand'"):
        client.delete_registered_model("Demand")


@pytest.fixture
def run_example(run_source, airflow_connection, mlflow_server):
    """A function that runs the source of a DAG file; all tasks must succeed."""
    for conn_id in ("mlflow_default", "mlflow_remote"):
        airflow_connection(conn_id, **mlflow_server.connection)

    def run(source: str) -> None:
        states = run_source(source)
        assert states
        assert all(set(tasks.values()) == {"success"} for tasks in states.values()), states

    return run


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.place)
def test_an_example_runs(block: Block, run_example, mlflow_server, monkeypatch, tmp_path):
    for script in SCRIPTS:
        if script.page == block.page:
            (tmp_path / script.file_name).write_text(script.code)
    monkeypatch.chdir(tmp_path)
    # Tasks find python and uv as in an activated environment.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)

    if re.search(r"@task|task_id=", block.code):
        run_example(block.dag_file)
    else:
        script = block.code.replace("http://localhost:5000", mlflow_server.url)
        subprocess.run([sys.executable, "-c", script], check=True)


def test_the_first_dag_of_your_own_logs_what_readme_promises(run_example, mlflow_server):
    run_example(code("README.md", "A first DAG of your own", "python"))

    client = MlflowClient(mlflow_server.url)
    experiment = client.get_experiment_by_name("My experiment")
    [run, *_] = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"alpha": "0.5"}
    assert run.data.metrics == {"rmse": 42.0}


@pytest.mark.usefixtures("airflow_database")
def test_the_commands_of_the_skill_promote_a_champion(mlflow_server, tmp_path):
    page = "skills/mlflow-from-airflow/SKILL.md"
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "demand.py").write_text(code(page, "Train, register, promote", "python"))
    commands = code(page, "The connection", "bash") + code(page, "Test it", "bash")
    environment = {
        **os.environ,
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    script = ["bash", "-euc", commands.replace("http://localhost:5000", mlflow_server.url)]
    process = subprocess.run(
        script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    assert re.search(r"^\(True, ", process.stdout, re.MULTILINE)
    assert re.search(r"^1 \{'test_rmse': ", process.stdout, re.MULTILINE)
