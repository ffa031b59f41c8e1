"""What the manifests promise about MLflow's pods and the tasks' pods, checked in the cluster."""

from __future__ import annotations

import boto3
import pytest
from botocore.exceptions import ClientError

from dev.cluster import chart, platform
from dev.tests.executors.tracked_dag_run import FIRST_TRIES
from dev.waiting import wait_until
from local_stack.settings import ROOT

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"


@pytest.fixture
def replicas(deployment):
    """The names of MLflow's two pods, once both have started."""
    pods = wait_until(
        "there are two replicas",
        lambda: deployment.pods("mlflow", "--selector=app.kubernetes.io/name=mlflow"),
        lambda pods: len(pods) == 2 and all(pod["status"].get("containerStatuses") for pod in pods),
    )
    return [pod["metadata"]["name"] for pod in pods]


def inside(deployment, namespace, pod, command):
    return deployment.cluster("exec", f"--namespace={namespace}", pod, "--", "sh", "-c", command, check=False)


def test_the_api_server_accepts_the_manifests(deployment):
    folder = ROOT / "deploy" / "kubernetes"
    output = deployment.cluster("apply", f"--kustomize={folder}", "--dry-run=server")
    for name in (
        "deployment.apps/mlflow",
        "job.batch/mlflow-db-upgrade",
        "networkpolicy.networking.k8s.io/mlflow",
    ):
        assert name in output


def test_mlflow_runs_without_rights_and_writes_only_where_it_may(deployment, replicas):
    for pod in replicas:
        assert "uid=10001" in inside(deployment, "mlflow", pod, "id")
        assert "Read-only file system" in inside(deployment, "mlflow", pod, "touch /opt/file")
        assert "No such file" in inside(deployment, "mlflow", pod, f"ls {TOKEN}")
        assert "CapEff:\t0000000000000000" in inside(deployment, "mlflow", pod, "cat /proc/self/status")


def test_a_tasks_pod_contains_no_secret(deployment, tasks):
    pod = tasks.worker(0)
    assert "uid=50000" in inside(deployment, chart.NAMESPACE, pod, "id")
    assert "No such file" in inside(deployment, chart.NAMESPACE, pod, f"ls {TOKEN}")
    [spec] = deployment.cluster.get("pod", f"--namespace={chart.NAMESPACE}", pod)["spec"]["containers"]
    assert "envFrom" not in spec
    assert [each["name"] for each in spec["env"] if "secretKeyRef" in each.get("valueFrom", {})] == []
    output = inside(deployment, chart.NAMESPACE, pod, "cat /proc/*/environ /opt/airflow/airflow.cfg")
    assert "execution_api_server_url" in output
    for secret in (platform.LOGIN, *platform.BUCKETS.values()):
        assert secret.rpartition(":")[2] not in output


def test_a_log_outlives_its_pod(deployment, run_dag):
    tasks = run_dag("logs_until_stopped")
    tasks.finish(dict.fromkeys(FIRST_TRIES, "FINISHED"))
    task = deployment.airflow.task_instance(tasks.dag_id, tasks.run_id, tasks.dag_id, 0)
    wait_until("its pod is gone", deployment.workers, lambda names: task["hostname"] not in names)
    assert "MLflow run logs_until_stopped[0]: " in deployment.airflow.log(tasks.dag_id, tasks.run_id, task)


def test_the_key_of_the_logs_opens_no_artifact(deployment):
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{deployment.ports.minio}",
        region_name=platform.REGION,
        aws_access_key_id="airflow-logs",
        aws_secret_access_key=platform.BUCKETS["airflow-logs"],
    )
    s3.list_objects_v2(Bucket="airflow-logs")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket="mlflow")
