"""Tracked tasks with a shared parent run: many at once, and some that log until a test stops them."""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import Any

from airflow.sdk import DAG, BaseHook, Variable, task
from airflow.sdk.exceptions import AirflowRuntimeError

WAIT_SECONDS = 2400


def until_stopped(variable: str) -> Iterator[int]:
    """Count until a test sets the Airflow variable, which all workers can read."""
    deadline = time.monotonic() + WAIT_SECONDS
    for step in count():
        yield step
        with suppress(AirflowRuntimeError):  # a worker may be disconnected for a while
            if Variable.get(variable, default=None):
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"There is no variable {variable}")
        time.sleep(0.5)


@task.mlflow(nested=True)
def sweep(number: int) -> None:
    import mlflow

    mlflow.log_param("number", number)
    mlflow.log_metric("step", 0)
    mlflow.log_text("1", "steps.txt")


@task.mlflow(nested=True, retries=1, retry_delay=timedelta(seconds=1))
def logs_until_stopped(number: int, dag_run: Any = None) -> None:
    import mlflow

    mlflow.log_param("number", number)
    steps = 0
    for step in until_stopped(dag_run.conf["variable"]):
        mlflow.log_metric("step", step, step=step)
        steps += 1
    mlflow.log_text(str(steps), "steps.txt")


@task.mlflow(nested=True, retries=1, retry_delay=timedelta(seconds=1))
def uploads_until_stopped(number: int, dag_run: Any = None) -> None:
    import mlflow

    mlflow.log_param("number", number)
    steps = 0
    for step in until_stopped(dag_run.conf["variable"]):
        mlflow.log_text(f"{step} " * 1_000_000, f"uploads/{step}.txt")
        mlflow.log_metric("step", step, step=step)
        steps += 1
    mlflow.log_text(str(steps), "steps.txt")


@task.mlflow
def prints_a_password(dag_run: Any = None) -> None:
    import mlflow

    print("password:", BaseHook.get_connection("planted").password)
    mlflow.log_param("printed", True)
    for _ in until_stopped(dag_run.conf["variable"]):
        pass


with DAG("sweep", schedule=None, max_active_tasks=64):
    sweep.expand(number=list(range(64)))

with DAG("logs_until_stopped", schedule=None):
    logs_until_stopped.expand(number=[0, 1])

with DAG("uploads_until_stopped", schedule=None):
    uploads_until_stopped.expand(number=[0, 1])

with DAG("prints_a_password", schedule=None):
    prints_a_password()
