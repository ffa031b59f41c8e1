"""MLflow's login in the Docker stack: ``MLFLOW_AUTH=1 astro dev start``."""

from __future__ import annotations

import pytest
import requests
import yaml

from dev.waiting import wait_until
from local_stack.settings import ROOT


@pytest.fixture
def with_login(alone):
    """MLflow started with the variable, and removed afterwards."""
    ports = {name: str(port) for name, port in alone.ports.items()}
    alone.down("--volumes")
    alone.compose("up", "--detach", "mlflow", MLFLOW_AUTH="1", **ports)
    wait_until("MLflow is healthy", lambda: alone.is_healthy("mlflow"))
    yield alone
    alone.down("--volumes")


def test_mlflow_accepts_only_the_login_of_the_connection(with_login):
    connection, _ = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())["airflow"]["connections"]
    url = (
        f"http://127.0.0.1:{with_login.ports['MLFLOW_PORT']}/api/2.0/mlflow/experiments/search?max_results=1"
    )
    logins = [None, ("admin", "wrong"), (connection["conn_login"], connection["conn_password"])]

    answers = [requests.get(url, auth=login, timeout=60).status_code for login in logins]

    assert answers == [401, 401, 200]
