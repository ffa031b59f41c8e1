"""What every test of the project may use: beside its own helpers, those of the provider's tests."""

import os
from pathlib import Path

from local.settings import MLFLOW_VENV

pytest_plugins = ["isolation", "mlflow_servers", "tests.helpers.clones"]

os.environ["MLFLOW_SERVER"] = str(MLFLOW_VENV / "bin" / "mlflow")


def pytest_configure() -> None:
    """Let Airflow find the project's DAGs."""
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parent / "dags")
