"""``astro dev start``, from the Dockerfile to the DAGs and their artifacts, with everything real.

The tests are one story, told in order: each starts where the one before ended.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from mlflow import MlflowClient
from rich.console import Console

from local import demo
from local.airflow_api import AirflowApi
from tests.docker.project import DAG_FILES, apply_settings

KEYS = {"aws_access_key_id": "mlflow-demo", "aws_secret_access_key": "mlflow-demo-secret"}
WRONG_KEYS = """\
services:
  mlflow:
    environment: { AWS_ACCESS_KEY_ID: nobody, AWS_SECRET_ACCESS_KEY: nothing }
"""


@pytest.fixture
def airflow(project):
    api = AirflowApi(project.ports["AIRFLOW_PORT"])
    api.log_in()
    return api


@pytest.fixture
def mlflow(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{project.ports['MLFLOW_PORT']}")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return MlflowClient()


@pytest.fixture
def keys(project, monkeypatch):
    """The S3 keys in this process, as those of somebody who reads artifacts past the MLflow server."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{project.ports['MINIO_PORT']}")


def in_minio(project) -> dict[str, bytes]:
    """Return every object of the bucket, as boto3 reads it."""
    return {found.key: found.get()["Body"].read() for found in project.bucket.objects.all()}


def in_mlflow(client: MlflowClient, folder: Path) -> dict[str, bytes]:
    """Return every artifact of every run and logged model, as MLflow gives it, by its key in the bucket."""
    from mlflow.artifacts import download_artifacts

    experiments = [found.experiment_id for found in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    # A run without artifacts has no folder either: asked for it, MLflow's server answers 500.
    places = [run.info.artifact_uri for run in runs if client.list_artifacts(run.info.run_id)]
    places += [model.artifact_location for model in client.search_logged_models(experiments)]
    found = {}
    for number, place in enumerate(places):
        prefix = place.removeprefix("mlflow-artifacts:/").removeprefix("s3://mlflow/")
        root = Path(download_artifacts(artifact_uri=place, dst_path=str(folder / str(number))))
        found |= {
            f"{prefix}/{file.relative_to(root)}": file.read_bytes()
            for file in root.rglob("*")
            if file.is_file()
        }
    return found


def assert_minio_holds_what_mlflow_gives(project, client, folder) -> None:
    objects = in_minio(project)
    assert objects == in_mlflow(client, folder)
    assert {"features.csv", "model.skops", "MLmodel"} <= {key.rpartition("/")[2] for key in objects}
    print("In MinIO:", *(f"{len(body):9d} B  {key}" for key, body in objects.items()), sep="\n  ")


def run_the_four_dags(project) -> None:
    demo.run(Console(), project.local_ports)


def test_dev_parse_passes_every_dag_file(project):
    said = project.pytest(".astro/test_dag_integrity_default.py")
    for name in DAG_FILES:
        assert f"test_file_imports[dags/{name}] PASSED" in said


def test_dev_parse_fails_for_a_dag_file_that_does_not_import(project, tmp_path):
    tmp_path.chmod(0o755)  # for the user of the image
    (tmp_path / "broken.py").write_text("from airflow.sdk import dag\nimport no_such_module\n")
    said = project.pytest(".astro/test_dag_integrity_default.py", dags=tmp_path, check=False)
    assert "dags/broken.py does not import" in said
    assert "No module named 'no_such_module'" in said


def test_dev_pytest_runs_the_tests_that_need_only_the_image(project):
    said = project.pytest("tests/")
    assert "tests/dags/test_integrity.py::test_parsing_imports_nothing_heavy PASSED" in said
    assert "tests/e2e" not in said


def test_the_image_holds_what_dags_need_and_no_secret(project):
    there = project.docker("run", "--rm", project.image, "find", ".", "-maxdepth", "2").split()
    assert {"./dags", "./include/housing.py", "./provider/src", "./requirements.txt"} <= set(there)
    assert {"./.git", "./.venv", "./.local", "./airflow_settings.yaml", "./.env"}.isdisjoint(there)


def test_it_starts_and_applies_the_connections(project):
    project.start()
    listed = json.loads(project.airflow("airflow connections list -o json").splitlines()[-1])
    assert {one["conn_id"] for one in listed} == {"mlflow_default", "minio_default"}


def test_the_test_button_says_that_mlflow_answers(airflow):
    body = {"connection_id": "mlflow_default", "conn_type": "mlflow", "host": "http://mlflow", "port": 5000}
    answer = airflow._call("POST", "/api/v2/connections/test", json=body)
    assert answer["status"], answer["message"]


def test_the_four_dags_run_green(project):
    run_the_four_dags(project)


def test_every_artifact_is_in_minio_as_mlflow_gives_it(project, mlflow, tmp_path):
    assert_minio_holds_what_mlflow_gives(project, mlflow, tmp_path)


def test_the_user_of_mlflow_may_touch_its_bucket_only(project):
    address = f"http://127.0.0.1:{project.ports['MINIO_PORT']}"
    s3 = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **KEYS)
    project.bucket.meta.client.create_bucket(Bucket="another")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["mlflow"]
    for refused in (
        lambda: s3.create_bucket(Bucket="third"),
        lambda: s3.list_objects_v2(Bucket="another"),
        lambda: s3.put_object(Bucket="another", Key="key", Body=b""),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused()


def test_every_port_listens_on_loopback_only(project):
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    addresses = [line.split()[3].rpartition(":") for line in listening.splitlines()]
    for name, port in project.ports.items():
        assert {host for host, _, number in addresses if number == str(port)} == {"127.0.0.1"}, name


def test_the_containers_and_their_memory_are_told(project):
    form = "table {{.Name}}\t{{.MemUsage}}\t{{.CPUPerc}}"
    said = project.docker("stats", "--no-stream", "--format", form)
    print(said)
    for service in ("scheduler", "api-server", "mlflow", "mlflow-postgres", "minio"):
        assert project.container(service) in said


def test_data_outlive_down_and_up(project, mlflow, tmp_path):
    before = in_minio(project)
    runs = [run.info.run_id for run in mlflow.search_runs(["1"])]
    project.down()
    project.start()
    assert in_minio(project) == before == in_mlflow(mlflow, tmp_path)
    assert [run.info.run_id for run in mlflow.search_runs(["1"])] == runs
    assert mlflow.get_registered_model("Housing").tags["data"] == "housing"


def test_down_with_volumes_removes_the_data(project):
    project.down("--volumes")
    assert project.docker("volume", "ls", "--quiet", f"--filter=name={project.name}") == ""


def test_the_same_dags_write_to_s3_directly(project, mlflow, keys, tmp_path):
    """With a server whose own keys are wrong, so that nothing could pass through it."""
    wrong_keys = tmp_path / "wrong-keys.yaml"
    wrong_keys.write_text(WRONG_KEYS)
    project.start(more=wrong_keys)
    apply_settings(project, artifact_conn_id="minio_default")
    mlflow.create_experiment("Housing", artifact_location="s3://mlflow/direct")

    run_the_four_dags(project)

    assert_minio_holds_what_mlflow_gives(project, mlflow, tmp_path)
    assert {key.partition("/")[0] for key in in_minio(project)} == {"direct"}


def test_the_keys_of_direct_s3_come_from_the_connection(project):
    assert "AWS_" not in project.airflow("env")
    wrong = {"conn_type": "aws", "login": "mlflow-demo", "password": "wrong"}
    wrong["extra"] = {"endpoint_url": "http://minio:9000", "region_name": "us-east-1"}
    said = project.run_task(AIRFLOW_CONN_MINIO_DEFAULT=json.dumps(wrong))
    assert "SignatureDoesNotMatch" in said
    assert "new_state=success" in project.run_task()
