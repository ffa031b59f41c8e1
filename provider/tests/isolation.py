"""Airflow and MLflow without the user's own settings; a pytest plugin."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

# Here, not in a fixture: Airflow reads its configuration when it is imported.
for variable in list(os.environ):
    is_the_users = variable.startswith(
        ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_", "AWS_", "DATABRICKS_", "MLFLOW_")
    )
    if is_the_users and variable != "MLFLOW_SERVER":  # which mlflow_servers.py reads
        del os.environ[variable]
not_proxied = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"]))
AIRFLOW_HOME = tempfile.mkdtemp(prefix="airflow-")
os.environ |= {
    "AIRFLOW_HOME": AIRFLOW_HOME,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__MLFLOW__INSTANCE": "tests",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_PROXY": not_proxied,
    "no_proxy": not_proxied,
}


@pytest.fixture
def untouched_mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give a test the MLflow state of a new process, and restore the state for later tests."""
    from mlflow.tracking import fluent
    from mlflow.tracking._model_registry import utils as registry
    from mlflow.tracking._tracking_service import utils as service

    monkeypatch.setattr(service, "_tracking_uri", None)
    monkeypatch.setattr(registry, "_registry_uri", None)
    monkeypatch.setattr(fluent, "_active_experiment_id", None)
    baseline = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(baseline)


def pytest_unconfigure() -> None:
    """Delete the temporary folder."""
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)
