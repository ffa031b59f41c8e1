"""What ``astro dev stop`` keeps, and ``astro dev kill`` removes."""

from tests.helpers.artifacts import in_bucket, in_mlflow
from tests.helpers.clones import wait_until


def test_data_outlive_down_and_up(started, mlflow, tmp_path):
    started.up()
    assert "new_state=success" in started.run_task()
    mlflow.create_registered_model("Kept", tags={"data": "housing"})
    given = in_mlflow(mlflow, tmp_path / "before", "Housing")
    objects = in_bucket(started.bucket)
    dag_runs = started.airflow_api()._call("GET", "/api/v2/dags/~/dagRuns")
    assert given
    assert given.items() <= objects.items()

    started.down()
    started.up()
    wait_until(started.answers, 300)

    assert in_bucket(started.bucket) == objects
    assert in_mlflow(mlflow, tmp_path / "after", "Housing") == given
    assert mlflow.get_registered_model("Kept").tags == {"data": "housing"}
    assert started.airflow_api()._call("GET", "/api/v2/dags/~/dagRuns") == dag_runs


def test_down_with_volumes_removes_the_data(started):
    assert len(started.volumes()) == 4  # databases of Airflow and MLflow, artifacts, task logs
    started.down("--volumes")
    assert started.volumes() == []
