"""What tests that run DAGs by ``dag.test()`` share."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_servers import MLflowServer, run_mlflow_server


@pytest.fixture(scope="session")
def airflow_database():
    """A database to run DAGs on."""
    subprocess.run(
        [Path(sys.executable).with_name("airflow"), "db", "migrate"], check=True, capture_output=True
    )


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """A server for each file: DAGs have names for what they make, so two files would meet there."""
    with run_mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server
