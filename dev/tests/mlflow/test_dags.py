"""The tutorial, run to its end by ``dag.test()`` against a MLflow server that wants a login.

dev/tests/stack/test_demo.py looks at what all of the DAGs do where there is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.process.mlflow_state import without_active_run

DAGS = Path(__file__).resolve().parents[3] / "dags"


@pytest.fixture(scope="module")
def dags(airflow_database):
    """The project's DAGs by ID, with a database to run them on."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(DAGS, bundle_path=DAGS, bundle_name="dags-folder").dags


@pytest.mark.skipif(not (DAGS / "mlflow_tutorial_dag.py").exists(), reason="the lesson was deleted")
def test_for_a_server_with_a_login_the_tutorial_needs_only_another_connection(
    dags, mlflow_auth_server, airflow_connection
):
    airflow_connection(**mlflow_auth_server.connection)

    with without_active_run():  # and with autologging as it was, afterwards
        dag_run = dags["mlflow_tutorial_dag"].test()

    states = {task.task_id: str(task.state) for task in dag_run.get_task_instances()}
    assert states == dict.fromkeys(
        ["create_experiment", "scale_features", "create_registered_model", "register_scaler"], "success"
    )
    with MLflowClientHook().tracking() as client:
        experiment = client.get_experiment_by_name("Housing")
        [run] = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"], max_results=1)
        artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
        [model] = client.search_logged_models([experiment.experiment_id], max_results=1)
        model_files = client.list_logged_model_artifacts(model.model_id)
        [version, *_] = client.search_model_versions("name = 'Housing'")
    assert (run.info.run_name, run.info.status) == ("Scaler", "FINISHED")
    assert {"features.csv", "scaled_features.csv"} <= artifacts
    assert "MLmodel" in {file.path for file in model_files}
    assert (version.run_id, version.source) == (run.info.run_id, f"models:/{model.model_id}")
