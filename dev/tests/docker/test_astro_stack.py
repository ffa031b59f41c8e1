"""``astro dev start``, from the Dockerfile to the DAGs and their artifacts."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import suppress

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from mlflow.exceptions import MlflowException
from rich.console import Console

from dev.docker.project import DAG_FILES, IMAGE, KEYS
from dev.tests.helpers.artifacts import in_bucket, in_mlflow
from dev.waiting import wait_until
from local_stack import demo
from local_stack.settings import ROOT


def test_dev_parse_passes_every_dag_file(project):
    output = project.pytest(".astro/test_dag_integrity_default.py")
    for name in DAG_FILES:
        assert f"test_file_imports[dags/{name}] PASSED" in output


def test_dev_parse_fails_for_a_dag_file_that_does_not_import(project, tmp_path):
    tmp_path.chmod(0o755)  # for the user of the image
    (tmp_path / "broken.py").write_text("from airflow.sdk import dag\nimport no_such_module\n")
    output = project.pytest(".astro/test_dag_integrity_default.py", dags=tmp_path, check=False)
    assert "dags/broken.py does not import" in output
    assert "No module named 'no_such_module'" in output


def test_dev_pytest_passes_without_an_mlflow_server(project):
    output = project.pytest("tests/")
    assert "tests/test_dag_integrity.py::test_parsing_imports_nothing_heavy PASSED" in output
    assert "no MLflow server" in output


def test_the_image_holds_what_dags_need_and_no_secret(docker):
    there = docker("run", "--rm", IMAGE, "find", ".", "-maxdepth", "2").split()
    assert {"./dags", "./include/housing.py", "./provider/src", "./requirements.txt"} <= set(there)
    assert {"./.git", "./.venv", "./.local", "./airflow_settings.yaml", "./.env"}.isdisjoint(there)


def test_mlflow_does_not_warn_about_a_missing_git(docker):
    """It warns if this import fails."""
    docker("run", "--rm", IMAGE, "python", "-c", "import os; os.environ['PATH'] = ''; import git")


def test_the_image_has_the_labels_that_the_astro_cli_looks_for(docker):
    form = "--format={{json .Config.Labels}}"
    labels = json.loads(docker("image", "inspect", form, IMAGE))
    (runtime,) = re.findall("^FROM .*/runtime:(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert labels["io.astronomer.docker.runtime.version"] == runtime
    version, _, _ = labels["io.astronomer.docker.airflow.version"].partition("+")
    assert version in docker("run", "--rm", IMAGE, "airflow", "version")


def test_an_extra_link_leads_to_the_published_port(started, airflow):
    dag_id = "mlflow_operator_dag"
    run_id = airflow.trigger(dag_id)
    wait_until("it has run", lambda: airflow.dag_run(dag_id, run_id)["state"] == "success")
    task = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/register_model"
    link = airflow.call("GET", f"{task}/links")["extra_links"]["MLflow model version"]
    assert link.startswith(f"http://localhost:{started.ports['MLFLOW_PORT']}/")


def test_the_connections_are_applied(started):
    listed = json.loads(started.airflow("airflow connections list -o json").splitlines()[-1])
    assert {one["conn_id"] for one in listed} == {"mlflow_default", "minio_default"}


def test_the_test_button_reports_that_mlflow_responds(airflow):
    body = {"connection_id": "mlflow_default", "conn_type": "mlflow", "host": "http://mlflow", "port": 5000}
    answer = airflow.call("POST", "/api/v2/connections/test", json=body)
    assert answer["status"], answer["message"]


def test_all_lessons_run_green_and_every_artifact_is_in_minio(started, airflow, mlflow, tmp_path):
    demo.run_lessons(Console(), airflow, started.local_ports)
    objects = in_bucket(started.bucket)
    assert {"features.csv", "model.skops", "MLmodel"} <= {key.rpartition("/")[2] for key in objects}
    assert objects == in_mlflow(mlflow, tmp_path)


def test_triggering_features_leads_to_predictions(started, airflow, mlflow):
    with suppress(MlflowException):  # there was none, or else the candidate might not be better
        mlflow.delete_registered_model_alias("Housing pipeline", "champion")
    predict = demo.PIPELINE[-1]
    baseline = len(airflow.call("GET", f"/api/v2/dags/{predict}/dagRuns")["dag_runs"])

    demo.run_pipeline(Console(), airflow, started.local_ports)

    runs = airflow.call("GET", f"/api/v2/dags/{predict}/dagRuns")["dag_runs"]
    assert [run["state"] for run in runs[baseline:]] == ["success"]
    run = mlflow.get_run(airflow.xcom(predict, runs[-1]["dag_run_id"], "mlflow_run_id"))
    champion = mlflow.get_model_version_by_alias("Housing pipeline", "champion")
    assert run.data.params["version"] == champion.version


def test_the_user_of_mlflow_may_touch_its_bucket_only(started):
    address = f"http://127.0.0.1:{started.ports['MINIO_PORT']}"
    s3 = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **KEYS)
    with suppress(ClientError):  # it was made in an earlier run
        started.bucket.meta.client.create_bucket(Bucket="another")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["mlflow"]
    for refused in (
        lambda: s3.create_bucket(Bucket="third"),
        lambda: s3.list_objects_v2(Bucket="another"),
        lambda: s3.put_object(Bucket="another", Key="key", Body=b""),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused()


def test_airflow_answers_under_any_host_name_as_the_documentation_says(started):
    url = f"http://127.0.0.1:{started.ports['AIRFLOW_PORT']}/auth/token"
    assert requests.get(url, headers={"Host": "example.com"}, timeout=60).ok


def test_every_port_listens_on_loopback_only(started):
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    addresses = [line.split()[3].rpartition(":") for line in listening.splitlines()]
    for name, port in started.ports.items():
        assert {host for host, _, number in addresses if number == str(port)} == {"127.0.0.1"}, name
