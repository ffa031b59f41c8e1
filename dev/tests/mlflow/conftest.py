"""Fixtures for tests that run DAGs with ``dag.test()``.

They import Airflow late, because it reads its configuration once and pytest loads this file before
dev/tests/conftest.py sets it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_servers import MLflowServer, run_mlflow_server

if TYPE_CHECKING:
    from mlflow import MlflowClient

DAGS = Path(__file__).resolve().parents[3] / "dags"
PIPELINE_MODEL = "Housing pipeline"


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """An empty Airflow database."""
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """A server for each test file, because the DAGs use the same names in MLflow."""
    with run_mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def run_dags(airflow_database: None) -> Callable[..., dict[str, dict[str, str]]]:
    """A function that runs the DAGs of a file and returns the states of their tasks, by DAG ID."""
    from airflow.dag_processing.dagbag import DagBag

    from mlflow_provider.tracking.active_run import autologging

    def run(file: Path, **params: Any) -> dict[str, dict[str, str]]:
        bag = DagBag(file, bundle_path=file.parent, bundle_name="dags-folder")
        assert bag.import_errors == {}
        states = {}
        for dag_id, dag in bag.dags.items():
            with autologging(False):  # plain tasks leave autologging on
                dag_run = dag.test(run_conf=params)
            states[dag_id] = {task.task_id: str(task.state) for task in dag_run.get_task_instances()}
        return states

    return run


@pytest.fixture
def run_source(
    run_dags: Callable[..., dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], dict[str, dict[str, str]]]:
    """A function that runs the source of a DAG file and returns the states of its tasks, by DAG ID."""
    from airflow import settings

    folder = tmp_path / "dags"
    folder.mkdir()
    monkeypatch.setattr(settings, "DAGS_FOLDER", str(folder))  # dag.test() also searches this folder

    def run(source: str) -> dict[str, dict[str, str]]:
        file = folder / "documented.py"
        file.write_text(source)
        return run_dags(file)

    return run


@pytest.fixture
def run_dag(
    run_dags: Callable[..., dict[str, dict[str, str]]],
    mlflow_server: MLflowServer,
    airflow_connection: Callable[..., str],
) -> Callable[..., dict[str, str]]:
    """A function that runs a DAG against the server and returns the states of its tasks."""
    airflow_connection(**mlflow_server.connection)

    def run(dag_id: str, folder: Path = DAGS, **params: Any) -> dict[str, str]:
        file = folder / f"{dag_id}.py"
        if not file.exists():
            pytest.skip(f"{file.name} was deleted")
        return run_dags(file, **params)[dag_id]

    return run


@pytest.fixture
def client(mlflow_server: MLflowServer) -> MlflowClient:
    """MLflow's client for the server, where the pipeline's registered model does not exist yet."""
    from mlflow import MlflowClient
    from mlflow.exceptions import RestException

    client = MlflowClient(mlflow_server.url)
    with suppress(RestException):  # no earlier test has registered it
        client.delete_registered_model(PIPELINE_MODEL)
    return client


@pytest.fixture
def two_versions(client: MlflowClient) -> MlflowClient:
    """The client; version 1 of the pipeline's model has the alias ``previous``, version 2 ``champion``."""
    client.create_registered_model(PIPELINE_MODEL)
    for alias in ("previous", "champion"):
        version = client.create_model_version(PIPELINE_MODEL, source="s3://bucket/housing").version
        client.set_registered_model_alias(PIPELINE_MODEL, alias, version)
    return client
