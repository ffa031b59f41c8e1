"""Tracked tasks whose pods differ: too little memory, another service account, a token in another place."""

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task
from kubernetes.client.models import V1Container, V1Pod, V1PodSpec, V1ResourceRequirements, V1VolumeMount

SMALL = V1Container(name="base", resources=V1ResourceRequirements(limits={"memory": "800Mi"}))
# Where MLflow's request-auth provider `kubernetes` reads a token.
MOUNT = V1VolumeMount(name="mlflow-token", mount_path="/var/run/secrets/kubernetes.io/serviceaccount")


def pod(container: V1Container, **fields: Any) -> dict[str, V1Pod]:
    return {"pod_override": V1Pod(spec=V1PodSpec(containers=[container], **fields))}


@task.mlflow(nested=True, retries=1, retry_delay=timedelta(seconds=1), executor_config=pod(SMALL))
def takes_too_much_memory(number: int, ti: Any = None) -> None:
    import mlflow

    mlflow.log_param("number", number)
    mlflow.log_metric("step", 0)
    if ti.try_number == 1:
        os.urandom(2 << 30)
    mlflow.log_text("1", "steps.txt")


@task.mlflow(executor_config=pod(V1Container(name="base"), service_account_name="default"))
def has_another_account() -> None:
    raise AssertionError("MLflow accepted another account")


@task.mlflow(
    mlflow_conn_id="auth_kubernetes",
    executor_config=pod(V1Container(name="base", volume_mounts=[MOUNT])),
)
def uses_auth_kubernetes() -> None:
    import mlflow

    mlflow.log_text("1", "steps.txt")


with DAG("takes_too_much_memory", schedule=None):
    takes_too_much_memory.expand(number=[0])

with DAG("has_another_account", schedule=None):
    has_another_account()

with DAG("uses_auth_kubernetes", schedule=None):
    uses_auth_kubernetes()
