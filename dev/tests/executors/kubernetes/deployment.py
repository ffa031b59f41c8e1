"""The cluster with MLflow, Airflow with the KubernetesExecutor, and what they need."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import boto3
import requests
import yaml

from dev.tests.executors.deployment import Deployment
from dev.tests.executors.kubernetes import airflow, images, platform
from dev.tests.executors.kubernetes.cluster import RUN, Cluster, cluster
from dev.tests.helpers.clones import wait_until
from dev.tests.helpers.relay import relay
from local_stack.airflow_api import AirflowApi
from local_stack.ports import Ports
from local_stack.settings import ROOT
from mlflow_servers import free_port

TASKS = "--selector=component=worker"
DAG_FILES = sorted(file.name for folder in (ROOT / "dags", *images.DAGS) for file in folder.glob("*.py"))


class KubernetesDeployment(Deployment):
    executor = "KubernetesExecutor"

    def __init__(self, cluster: Cluster, ports: Ports) -> None:
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
        pods = self.pods(airflow.NAMESPACE, TASKS)
        return sorted(pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running")

    def worker_of(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
        return self.airflow.task_instance(dag_id, run_id, task_id, map_index)["hostname"]

    def run_in(self, worker: str, *command: str) -> str:
        return self.cluster("exec", f"--namespace={airflow.NAMESPACE}", worker, "--", *command)

    def kill(self, worker: str) -> None:
        # All but the first process of the pod, which the kernel protects: it ends with them.
        kill = ("sh", "-c", "kill -KILL -1")
        self.cluster("exec", f"--namespace={airflow.NAMESPACE}", worker, "--", *kill, check=False)

    def restart_mlflow(self) -> None:
        self.cluster("rollout", "restart", "--namespace=mlflow", "deployment/mlflow")
        self.cluster("rollout", "status", "--namespace=mlflow", "deployment/mlflow", "--timeout=10m")

    def restart_scheduler(self) -> None:
        [scheduler] = self.pods(airflow.NAMESPACE, "--selector=component=scheduler")
        killed = time.time()
        self.delete(airflow.NAMESPACE, scheduler["metadata"]["name"], "--grace-period=0", "--force")
        wait_until(
            "the scheduler gives a sign of life",
            lambda: self.airflow.heartbeats().get("scheduler", 0),
            lambda moment: moment > killed,
        )

    def pods(self, namespace: str, *which: str) -> list[dict[str, Any]]:
        """Return pods as the API server has them."""
        return self.cluster.get("pods", f"--namespace={namespace}", *which)["items"]

    def delete(self, namespace: str, pod: str, *how: str) -> None:
        """Delete a pod; do not wait until it is gone."""
        self.cluster("delete", "pod", f"--namespace={namespace}", pod, "--wait=false", *how)


@contextmanager
def running() -> Iterator[KubernetesDeployment]:
    """Start all of it, and remove it in the end, as well as what an interrupted run left.

    :raises MissingError: this machine cannot have a cluster of its own.
    """
    with cluster() as kubernetes, ExitStack() as relays:
        images.bring(kubernetes)
        began = time.monotonic()
        ports = Ports(airflow=free_port(), mlflow=free_port(), minio=free_port())
        platform.install(kubernetes)
        install_mlflow(kubernetes, ports.mlflow)
        print(f"MLflow's replicas are ready ({time.monotonic() - began:.0f} s)", flush=True)
        airflow.install(kubernetes)
        for namespace, name, port in (
            ("airflow", "airflow-api-server", ports.airflow),
            ("mlflow", "mlflow", ports.mlflow),
            ("platform", "minio", ports.minio),
        ):
            spec = kubernetes.get("service", f"--namespace={namespace}", name)["spec"]
            relays.enter_context(relay((spec["clusterIP"], spec["ports"][0]["port"]), port))
        deployment = KubernetesDeployment(kubernetes, ports)
        wait_until("MLflow answers", lambda: mlflow_answers(ports.mlflow))
        deployment.airflow.log_in()
        wait_until(
            "all DAGs are read",
            lambda: sorted(deployment.airflow.parsed()),
            lambda files: files == DAG_FILES,
        )
        print(f"Airflow has read the DAGs ({time.monotonic() - began:.0f} s)", flush=True)
        yield deployment


def install_mlflow(cluster: Cluster, port: int) -> None:
    """Do as docs/scale.md says; MLflow also answers to the name by which the tests know it."""
    keys = {
        "MLFLOW_BACKEND_STORE_URI": platform.database("mlflow"),
        "MLFLOW_S3_ENDPOINT_URL": platform.STORE,
        "AWS_ACCESS_KEY_ID": "mlflow",
        "AWS_SECRET_ACCESS_KEY": platform.BUCKETS["mlflow"],
        "AWS_DEFAULT_REGION": platform.REGION,
    }
    overlay = RUN / "overlay"
    overlay.mkdir()
    base = ROOT / "deploy" / "kubernetes"
    [config] = yaml.safe_load((base / "kustomization.yaml").read_text())["configMapGenerator"]
    hosts = next(line for line in config["literals"] if line.startswith("MLFLOW_SERVER_ALLOWED_HOSTS="))
    changed = {
        "name": "mlflow",
        "behavior": "merge",
        "literals": [f"{hosts},127.0.0.1:{port},localhost:{port}"],
    }
    kustomization = {
        "namespace": "mlflow",
        "resources": [os.path.relpath(base, overlay)],
        "configMapGenerator": [changed],
    }
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    cluster("apply", f"--filename={base / 'namespace.yaml'}")
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "mlflow", "namespace": "mlflow"},
            "stringData": keys,
        }
    )
    cluster("apply", f"--kustomize={overlay}")
    cluster("rollout", "status", "--namespace=mlflow", "deployment/mlflow", "--timeout=10m")


def mlflow_answers(port: int) -> bool:
    """Tell whether MLflow's API answers, outside of the cluster."""
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
    return requests.get(url, timeout=30).ok
