"""DAGs that run to their end, with a real MLflow server and without one.

To test a DAG of yours, add its ID to ``DAG_IDS``. ``airflow dags test`` runs it by ``dag.test()``, in its own
process and database.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DAG_IDS = ["mlflow_tutorial_dag"]
PROJECT = Path(__file__).parents[1]


@pytest.fixture
def run_dag(tmp_path):
    """A function that runs a DAG to its end and returns what it printed; all tasks must succeed."""

    def run(dag_id):
        if not (PROJECT / "dags" / f"{dag_id}.py").exists():
            pytest.skip(f"{dag_id} was deleted")
        environment = {
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
            "PYTHONPATH": str(PROJECT),
        }
        for arguments in (["db", "migrate"], ["dags", "test", dag_id]):
            command = [sys.executable, "-m", "airflow", *arguments]
            process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert process.returncode == 0, process.stdout[-5000:] + process.stderr[-5000:]
        return process.stdout + process.stderr

    return run


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_dag_run_succeeds_and_its_mlflow_runs_are_finished(dag_id, run_dag, mlflow):
    run_dag(dag_id)

    experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    runs = mlflow.search_runs(experiments, f"tags.`airflow.dag_id` = '{dag_id}'")
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_without_mlflow_a_tracked_task_runs_untracked(run_dag, monkeypatch):
    monkeypatch.setenv("AIRFLOW__MLFLOW__ENABLED", "False")
    assert "This task runs without an MLflow run" in run_dag("pipeline_1_features")
