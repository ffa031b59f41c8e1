"""A tracked task that exceeds the memory of its pod."""

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task
from kubernetes.client.models import V1Container, V1Pod, V1PodSpec, V1ResourceRequirements

SMALL = V1Container(name="base", resources=V1ResourceRequirements(limits={"memory": "800Mi"}))


@task.mlflow(
    nested=True,
    retries=1,
    retry_delay=timedelta(seconds=1),
    executor_config={"pod_override": V1Pod(spec=V1PodSpec(containers=[SMALL]))},
)
def takes_too_much_memory(number: int, ti: Any = None) -> None:
    import mlflow

    mlflow.log_param("number", number)
    mlflow.log_metric("step", 0)
    if ti.try_number == 1:
        os.urandom(2 << 30)
    mlflow.log_text("1", "steps.txt")


with DAG("takes_too_much_memory", schedule=None):
    takes_too_much_memory.expand(number=[0])
