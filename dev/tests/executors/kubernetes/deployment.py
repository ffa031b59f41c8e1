"""MLflow, and Airflow with the KubernetesExecutor, in a cluster: the one of ``KUBECONFIG``, or our own."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
import requests
import yaml

from dev import MissingError
from dev.cluster import chart, images, node, platform
from dev.cluster.kubectl import Kubectl
from dev.tests.executors.deployment import Deployment
from dev.waiting import wait_until
from local_stack.airflow_api import AirflowApi
from local_stack.ports import Ports
from local_stack.settings import ROOT
from mlflow_servers import free_port

NAMESPACES = (platform.NAMESPACE, "mlflow", chart.NAMESPACE)
TASKS = "--selector=component=worker"
DAG_FILES = sorted(file.name for folder in (ROOT / "dags", *images.DAGS) for file in folder.glob("*.py"))


class KubernetesDeployment(Deployment):
    executor = "KubernetesExecutor"

    def __init__(self, cluster: Kubectl, ports: Ports) -> None:
        self.cluster = cluster
        self.ports = ports
        self.airflow = AirflowApi(ports.airflow)
        user, password = platform.ADMINISTRATOR
        self.bucket = boto3.resource(
            "s3",
            endpoint_url=f"http://127.0.0.1:{ports.minio}",
            region_name=platform.REGION,
            aws_access_key_id=user,
            aws_secret_access_key=password,
        ).Bucket("mlflow")

    def workers(self) -> list[str]:
        pods = self.pods(chart.NAMESPACE, TASKS)
        return sorted(pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running")

    def worker_of(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
        return self.airflow.task_instance(dag_id, run_id, task_id, map_index)["hostname"]

    def run_in(self, worker: str, *command: str) -> str:
        return self.cluster("exec", f"--namespace={chart.NAMESPACE}", worker, "--", *command)

    def output(self, worker: str) -> str:
        return self.cluster("logs", f"--namespace={chart.NAMESPACE}", worker)

    def kill(self, worker: str) -> None:
        # The kernel protects the first process of the pod, which ends with the others.
        kill = ("sh", "-c", "kill -KILL -1")
        self.cluster("exec", f"--namespace={chart.NAMESPACE}", worker, "--", *kill, check=False)

    def restart_mlflow(self) -> None:
        self.cluster("rollout", "restart", "--namespace=mlflow", "deployment/mlflow")
        self.cluster("rollout", "status", "--namespace=mlflow", "deployment/mlflow", "--timeout=10m")

    def restart_scheduler(self) -> None:
        [scheduler] = self.pods(chart.NAMESPACE, "--selector=component=scheduler")
        killed = time.time()
        self.delete(chart.NAMESPACE, scheduler["metadata"]["name"], "--grace-period=0", "--force")
        wait_until(
            "the scheduler has sent a heartbeat",
            lambda: self.airflow.heartbeats().get("scheduler", 0),
            lambda moment: moment > killed,
        )

    def pods(self, namespace: str, *which: str) -> list[dict[str, Any]]:
        """Return pods as the API server has them."""
        return self.cluster.get("pods", f"--namespace={namespace}", *which)["items"]

    def delete(self, namespace: str, pod: str, *how: str) -> None:
        """Delete a pod without waiting."""
        self.cluster("delete", "pod", f"--namespace={namespace}", pod, "--wait=false", *how)


@contextmanager
def running() -> Iterator[KubernetesDeployment]:
    """Install everything, and remove it at the end.

    :raises MissingError: there is no cluster, and this machine cannot run one.
    """
    with a_cluster() as cluster, ExitStack() as forwarded:
        began = time.monotonic()
        ports = Ports(airflow=free_port(), mlflow=free_port(), minio=free_port())
        platform.install(cluster)
        install_mlflow(cluster, ports.mlflow)
        print(f"MLflow's replicas are ready ({time.monotonic() - began:.0f} s)", flush=True)
        chart.install(cluster)
        for namespace, service, port in (
            (chart.NAMESPACE, "airflow-api-server", ports.airflow),
            (platform.NAMESPACE, "minio", ports.minio),
        ):
            forwarded.enter_context(cluster.forward(namespace, service, port))
        # Past the login, as an administrator.
        forwarded.enter_context(cluster.forward_to_pod("mlflow", "deployment/mlflow", ports.mlflow, 5001))
        deployment = KubernetesDeployment(cluster, ports)
        wait_until("MLflow answers", lambda: mlflow_answers(ports.mlflow))
        deployment.airflow.log_in()
        wait_until("all DAGs are read", lambda: sorted(deployment.airflow.parsed()), DAG_FILES.__eq__)
        print(f"Airflow has read the DAGs ({time.monotonic() - began:.0f} s)", flush=True)
        yield deployment


@contextmanager
def a_cluster() -> Iterator[Kubectl]:
    """Yield the cluster of ``KUBECONFIG`` without our namespaces, or our own with the images loaded."""
    if not (kubeconfig := os.environ.get("KUBECONFIG")):
        with node.running() as cluster:
            images.load(cluster)
            yield cluster
        return
    cluster = Kubectl(Path(kubeconfig))
    existing = {namespace["metadata"]["name"] for namespace in cluster.get("namespaces")["items"]}
    if in_use := existing & set(NAMESPACES):
        raise MissingError(f"The cluster of {kubeconfig} already has {', '.join(in_use)}; use an empty one.")
    try:
        yield cluster
    finally:
        cluster("delete", "namespace", "--ignore-not-found", *NAMESPACES)
        cluster("delete", "clusterrolebinding", "--ignore-not-found", "mlflow-auth-delegator")


def install_mlflow(cluster: Kubectl, port: int) -> None:
    """Follow docs/how-to/kubernetes.md, with the login; MLflow also accepts the tests' host name."""
    keys = {
        "MLFLOW_BACKEND_STORE_URI": platform.database("mlflow"),
        "MLFLOW_S3_ENDPOINT_URL": platform.STORE,
        "AWS_ACCESS_KEY_ID": "mlflow",
        "AWS_SECRET_ACCESS_KEY": platform.BUCKETS["mlflow"],
        "AWS_DEFAULT_REGION": platform.REGION,
    }
    base = ROOT / "deploy" / "kubernetes"
    [config] = yaml.safe_load((base / "kustomization.yaml").read_text())["configMapGenerator"]
    hosts = next(line for line in config["literals"] if line.startswith("MLFLOW_SERVER_ALLOWED_HOSTS="))
    literals = [f"{hosts},127.0.0.1:{port},localhost:{port}"]
    cluster("apply", f"--filename={base / 'namespace.yaml'}")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mlflow", "namespace": "mlflow"}}
    cluster.apply({**secret, "stringData": keys})
    with tempfile.TemporaryDirectory() as overlay:
        kustomization = {
            "namespace": "mlflow",
            "resources": [os.path.relpath(base, overlay)],
            "components": [os.path.relpath(base / "service-accounts", overlay)],
            "configMapGenerator": [{"name": "mlflow", "behavior": "merge", "literals": literals}],
        }
        Path(overlay, "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        cluster("apply", f"--kustomize={overlay}")
    cluster("rollout", "status", "--namespace=mlflow", "deployment/mlflow", "--timeout=10m")


def mlflow_answers(port: int) -> bool:
    """Tell whether MLflow's API answers, outside the cluster."""
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
    return requests.get(url, timeout=30).ok
