"""DAGs with one ``@task.mlflow`` each, for every way in which a task can end."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

from airflow.sdk import DAG, task

from mlflow_provider import task_run

WAIT_SECONDS = 600


def until_stopped(run_id: str) -> Iterator[int]:
    """Count until a test creates a file with the name of the DAG run."""
    stop = Path(__file__).with_suffix(".stop") / run_id
    deadline = time.monotonic() + WAIT_SECONDS
    for step in count():
        if stop.exists():
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{stop} was not created")
        yield step
        time.sleep(0.5)


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


# Includes the import of mlflow, which is slow on a busy machine.
@task.mlflow(execution_timeout=timedelta(seconds=30))
def times_out() -> None:
    time.sleep(600)


@task.mlflow
def logs_until_stopped(run_id=None) -> None:
    import mlflow

    for step in until_stopped(run_id):
        mlflow.log_metric("step", step)


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
    logs_until_stopped,
    uses_the_context_manager,
    is_async,
):
    with DAG(decorated.function.__name__, schedule=None):
        decorated()

with DAG("sweep", schedule=None):
    sweep.expand(alpha=list(range(1, 9)))  # twice as many as run at the same time

with DAG("killed_mapped", schedule=None):
    killed_mapped.expand(number=[1, 2])
