"""DAGs that run to their end against a real MLflow server.

To test a DAG of yours, add its ID to ``DAG_IDS``. ``airflow dags test`` runs it by ``dag.test()``, in its own
process and database, and with the connection ``mlflow_default`` to the server of tests/conftest.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DAG_IDS = ["mlflow_tutorial_dag"]
PROJECT = Path(__file__).parents[1]
CONNECTION = "AIRFLOW_CONN_MLFLOW_DEFAULT"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_dag_run_succeeds_and_its_mlflow_runs_are_finished(
    dag_id, mlflow_connection, monkeypatch, tmp_path
):
    if not (PROJECT / "dags" / f"{dag_id}.py").exists():
        pytest.skip(f"{dag_id} was deleted")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "PYTHONPATH": str(PROJECT),
        CONNECTION: mlflow_connection,
    }
    for arguments in (["db", "migrate"], ["dags", "test", dag_id]):
        command = [sys.executable, "-m", "airflow", *arguments]
        process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout[-5000:] + process.stderr[-5000:]

    from mlflow_provider.hooks.client import MLflowClientHook

    monkeypatch.setenv(CONNECTION, mlflow_connection)
    client = MLflowClientHook().client
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`airflow.dag_id` = '{dag_id}'")
    assert {run.info.status for run in runs} == {"FINISHED"}
