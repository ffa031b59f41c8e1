"""``astro dev stop`` keeps all data, ``astro dev kill`` removes it."""

from dev.tests.helpers.artifacts import in_bucket, in_mlflow
from dev.waiting import wait_until
from local_stack.demo import TUTORIAL


def test_data_survives_down_and_up(started, mlflow, tmp_path):
    airflow = started.airflow_api()
    run_id = airflow.trigger(TUTORIAL)
    wait_until("it has run", lambda: airflow.dag_run(TUTORIAL, run_id)["state"] == "success")
    artifacts = in_mlflow(mlflow, tmp_path / "before", "Housing")
    objects = in_bucket(started.bucket)
    dag_runs = airflow.call("GET", "/api/v2/dags/~/dagRuns")
    assert artifacts
    assert artifacts.items() <= objects.items()

    started.down()
    started.up()
    wait_until("Airflow answers", started.answers)

    assert in_bucket(started.bucket) == objects
    assert in_mlflow(mlflow, tmp_path / "after", "Housing") == artifacts
    assert mlflow.get_registered_model("Housing").tags == {"model_type": "regression", "data": "housing"}
    assert started.airflow_api().call("GET", "/api/v2/dags/~/dagRuns") == dag_runs


def test_down_with_volumes_removes_the_data(started):
    assert len(started.volumes()) == 4  # databases of Airflow and MLflow, artifacts, task logs
    started.down("--volumes")
    assert started.volumes() == []
