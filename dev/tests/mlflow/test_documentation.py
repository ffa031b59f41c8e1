"""The Python of the pages, run as it stands there against an MLflow server.

A block is what somebody pastes: it imports what it uses. A DAG is run to its end, and so are tasks that stand
there without one; anything else is a script.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from dev.tests.helpers.documentation import PYTHON_RUNNER, Block, blocks_run_by, code
from mlflow_provider.process.mlflow_state import without_active_run
from mlflow_servers import MLflowServer, run_mlflow_server

PYTHON = [block for block in blocks_run_by(PYTHON_RUNNER) if block.language == "python"]
# A file that another block starts is no DAG and no test of its own.
COMPANIONS = [block for block in PYTHON if block.file_name and "airflow" not in block.code]
# Around tasks that a page shows without their DAG.
IN_A_DAG = """\
from airflow.sdk import DAG
from airflow.sdk.bases.decorator import is_decorated_task

with DAG("documented") as documented:
{code}
    if not documented.tasks:
        for function in list(filter(is_decorated_task, globals().values())):
            function()
"""


@pytest.fixture
def run_as_dags(
    airflow_database: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], list[dict[str, str]]]:
    """A function that runs a DAG file to its end, and returns the states of the tasks of each DAG in it."""
    from airflow import settings
    from airflow.dag_processing.dagbag import DagBag

    def run(source: str) -> list[dict[str, str]]:
        folder = tmp_path / "dags"
        folder.mkdir()
        (folder / "documented.py").write_text(source)
        monkeypatch.setattr(settings, "DAGS_FOLDER", str(folder))  # where dag.test() looks for them, too
        bag = DagBag(folder, bundle_path=folder, bundle_name="dags-folder")
        assert bag.import_errors == {}
        states = []
        for dag in bag.dags.values():
            with without_active_run():
                dag_run = dag.test()
            states.append({task.task_id: str(task.state) for task in dag_run.get_task_instances()})
        return states

    return run


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """A server with the registered model of the examples, ``Housing``: each version is better."""
    with run_mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        client = MlflowClient(server.url)
        client.create_registered_model("Housing")
        for rmse in (38_000, 36_000, 34_000, 32_000, 30_000):  # USD
            run_id = client.create_run("0").info.run_id
            client.log_metric(run_id, "test_rmse", rmse)
            client.create_model_version("Housing", f"s3://bucket/{run_id}", run_id=run_id)
        yield server


@pytest.fixture
def _registry(mlflow_server: MLflowServer) -> None:
    """What every example finds: version 4 of ``Housing`` is the champion, ``Demand`` is not registered."""
    client = MlflowClient(mlflow_server.url)
    client.set_registered_model_alias("Housing", "champion", "4")
    if client.search_registered_models("name = 'Demand'"):
        client.delete_registered_model("Demand")


@pytest.mark.parametrize(
    "block", [block for block in PYTHON if block not in COMPANIONS], ids=lambda block: block.place
)
@pytest.mark.usefixtures("_registry")
def test_python_of_a_page_runs(
    block: Block, run_as_dags, mlflow_server, airflow_connection, monkeypatch, tmp_path
):
    for conn_id in ("mlflow_default", "mlflow_remote"):
        airflow_connection(conn_id, **mlflow_server.connection)
    for companion in COMPANIONS:
        if companion.page == block.page:
            (tmp_path / companion.file_name).write_text(companion.code)
    monkeypatch.chdir(tmp_path)
    # As in an activated environment, whose python and uv the tasks find.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    source = block.code.replace("http://localhost:5000", mlflow_server.url)

    if not re.search(r"@task|task_id=", source):
        subprocess.run([sys.executable, "-c", source], check=True)
        return
    if "@dag" not in source:
        source = IN_A_DAG.format(code=textwrap.indent(source, "    "))
    states = run_as_dags(source)
    assert states
    assert all(set(tasks.values()) == {"success"} for tasks in states), states


def test_the_first_dag_of_your_own_leaves_what_readme_says(run_as_dags, mlflow_server, airflow_connection):
    airflow_connection(**mlflow_server.connection)

    run_as_dags(code("README.md", "A first DAG of your own", "python"))

    client = MlflowClient(mlflow_server.url)
    experiment = client.get_experiment_by_name("My experiment")
    [run, *_] = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"alpha": "0.5"}
    assert run.data.metrics == {"rmse": 42.0}


@pytest.mark.usefixtures("airflow_database", "_registry")
def test_the_commands_of_the_skill_lead_to_a_champion(mlflow_server, tmp_path):
    page = "skills/mlflow-from-airflow/SKILL.md"
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "demand.py").write_text(code(page, "Train, register, promote", "python"))
    commands = code(page, "The connection", "bash") + code(page, "Test it", "bash")
    programs = Path(sys.executable).parent

    done = subprocess.run(
        ["bash", "-euc", commands.replace("http://localhost:5000", mlflow_server.url)],
        cwd=tmp_path,
        env={
            **os.environ,
            "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
            "PATH": f"{programs}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"^\(True, ", done.stdout, re.MULTILINE)
    assert re.search(r"^1 \{'test_rmse': ", done.stdout, re.MULTILINE)
