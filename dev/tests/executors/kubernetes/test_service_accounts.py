"""MLflow's login by service account, which all tasks of these suites use."""

from __future__ import annotations

import json

import pytest
import requests

from dev.cluster import chart
from dev.tests.executors.tracked_dag_run import FIRST_TRIES
from dev.waiting import wait_until
from mlflow_servers import free_port

OF_MLFLOW = "--audience=mlflow"


@pytest.fixture
def status(deployment):
    """A function that returns the status of MLflow's response to a request with a token."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"

    def status(token):
        headers = {"Host": "mlflow.mlflow:5000", "Authorization": f"Bearer {token}"}
        return requests.get(url, headers=headers, timeout=30).status_code

    with deployment.cluster.forward("mlflow", "mlflow", port):
        yield status


@pytest.mark.parametrize(
    ("account", "options", "expected"),
    [
        ("airflow-worker", [OF_MLFLOW], 200),
        ("airflow-worker", [], 401),
        ("default", [OF_MLFLOW], 403),
        (None, [], 401),
    ],
    ids=["airflow", "for another audience", "another account", "no token"],
)
def test_mlflow_accepts_only_tokens_for_itself_of_airflows_accounts(
    deployment, status, account, options, expected
):
    create = ("create", "token", f"--namespace={chart.NAMESPACE}")
    token = deployment.cluster(*create, account, *options) if account else ""
    assert status(token) == expected


def test_a_task_with_another_account_learns_that_access_is_denied(deployment, run_dag):
    tasks = run_dag("has_another_account")
    assert tasks.wait_for_end() == "failed"
    [task] = deployment.airflow.task_instances(tasks.dag_id, tasks.run_id)
    assert "access denied" in deployment.airflow.log(tasks.dag_id, tasks.run_id, task)


def test_a_task_logs_in_with_the_provider_kubernetes_of_mlflow(deployment, run_dag):
    connection = {"connection_id": "auth_kubernetes", "conn_type": "mlflow", "host": "http://mlflow.mlflow"}
    extra = json.dumps({"auth": "kubernetes"})
    deployment.airflow.create_or_replace("connections", [{**connection, "port": 5000, "extra": extra}])
    tasks = run_dag("uses_auth_kubernetes")
    assert tasks.wait_for_end() == "success"
    assert [run.info.status for run in tasks.runs()] == ["FINISHED"]


def test_tasks_that_outlive_their_token_lose_nothing(mlflow, status, old_tasks, old_token):
    wait_until("their first token has expired", lambda: status(old_token), (401).__eq__, seconds=900)
    old_tasks.wait_until_logging(*FIRST_TRIES)
    old_tasks.finish(dict.fromkeys(FIRST_TRIES, "FINISHED"))
