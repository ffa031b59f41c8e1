"""The DAG ``mlflow_doctor``, run by Airflow against a real MLflow server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_provider.doctor import examine
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.tracking import runs

DAGS = Path(__file__).resolve().parents[3] / "dags"
TASK_ID = "examine_default"


@pytest.fixture(scope="module")
def dag():
    """The DAG, with a database to run it on."""
    from airflow.dag_processing.dagbag import DagBag

    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True)
    return DagBag(DAGS / "mlflow_doctor.py", bundle_path=DAGS, bundle_name="dags-folder").dags[
        "mlflow_doctor"
    ]


@pytest.fixture
def mlflow_default(mlflow_server, airflow_connection):
    return airflow_connection(**mlflow_server.connection)


def test_a_healthy_server_makes_it_green_and_the_log_has_each_check(dag, mlflow_default, capfd):
    assert dag.test().state == "success"

    log = capfd.readouterr().out
    for result in examine():
        assert result.check in log


def test_a_run_that_is_running_after_its_task_is_found_and_ended_on_request(dag, mlflow_default):
    hook = MLflowClientHook()
    ended = dag.test()
    tags = {**runs.dag_run_tags("mlflow_doctor", ended.run_id), "airflow.task_id": TASK_ID}
    experiment_id = hook.get_or_create_experiment("Left open")
    run = runs.create(hook, experiment_id, "left open", {"airflow.map_index": "-1"}, tags)
    run_id = {"run_id": run.run_id}

    assert dag.test().state == "failed"
    assert hook.get_run(**run_id)["info"]["status"] == "RUNNING"

    assert dag.test(run_conf={"close_open_runs": True}).state == "success"
    assert hook.get_run(**run_id)["info"]["status"] == "KILLED"


def test_a_server_that_cannot_be_reached_makes_it_red_and_its_log_has_the_fix(dag, airflow_connection, capfd):
    airflow_connection(host="http://mlflow.invalid:5000")

    assert dag.test().state == "failed"

    assert "host name cannot be resolved; use one that workers can resolve" in capfd.readouterr().out


def test_the_command_line_finds_a_connection_in_airflows_database(dag, mlflow_server):
    airflow = Path(sys.executable).with_name("airflow")
    added = ["connections", "add", "stored", "--conn-type", "mlflow", "--conn-host", mlflow_server.url]
    subprocess.run([airflow, *added], check=True, capture_output=True)

    command = [sys.executable, "-m", "mlflow_provider.doctor", "--conn-id", "stored"]
    process = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)

    assert "All is well" in process.stdout
    assert process.returncode == 0
