"""What every test of the project may use: beside its own helpers, those of the provider's tests."""

import os
from pathlib import Path

import pytest

from local.settings import MLFLOW_VENV

pytest_plugins = ["isolation", "mlflow_servers", "tests.helpers.clones"]

os.environ["MLFLOW_SERVER"] = str(MLFLOW_VENV / "bin" / "mlflow")


def pytest_configure() -> None:
    """Let Airflow find the project's DAGs."""
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parent / "dags")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file, or of a folder that says so, in one process: they share what it makes."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
