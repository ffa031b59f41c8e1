"""DAGs of one ``@task.mlflow`` each, for the ways in which a task can end."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, task

from mlflow_provider import task_run

# A task that waits for the test does so until this file is there.
GO = Path(__file__).with_suffix(".go")


def wait_for_go() -> None:
    while not GO.exists():
        time.sleep(0.1)


@task.mlflow(nested=True)
def sweep(alpha: int) -> None:
    import mlflow

    mlflow.log_metric("rmse", 1 / alpha)


@task.mlflow
def raises() -> None:
    raise ValueError("no sales in 2011")


@task.mlflow(retries=1, retry_delay=timedelta(seconds=2))
def killed_then_retried(ti=None) -> None:
    if ti.try_number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@task.mlflow
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task.mlflow(nested=True)
def killed_mapped(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task.mlflow(execution_timeout=timedelta(seconds=3))
def times_out() -> None:
    time.sleep(600)


@task.mlflow
def waits() -> None:
    wait_for_go()


@task.mlflow
def logs_for_long() -> None:
    import mlflow

    wait_for_go()
    for step in range(30):
        mlflow.log_metric("step", step)
        time.sleep(1)


@task
def uses_the_context_manager() -> None:
    with task_run(tags={"kind": "plain"}):
        pass


@task.mlflow
async def is_async() -> None:
    import mlflow

    mlflow.log_metric("rmse", 0.5)


for decorated in (
    raises,
    killed_then_retried,
    killed,
    times_out,
    waits,
    logs_for_long,
    uses_the_context_manager,
    is_async,
):
    with DAG(decorated.function.__name__, schedule=None):
        decorated()

with DAG("sweep", schedule=None):
    sweep.expand(alpha=list(range(1, 17)))

with DAG("killed_mapped", schedule=None):
    killed_mapped.expand(number=[1, 2])
