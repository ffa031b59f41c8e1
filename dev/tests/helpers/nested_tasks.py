"""Tracked tasks of one DAG run that run at once, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

from mlflow_provider import task_run
from tries import Try

NEW = SimpleNamespace(next_method=None, task_reschedule_count=0)


def nested_task(experiment: str, index: int) -> None:
    """Log a metric to a run under the parent run of the DAG run."""
    import mlflow

    a_try = Try(f"manual__{experiment}", map_index=index, running=2, known=NEW)
    with task_run(context=a_try.context, experiment=experiment, nested=True):
        mlflow.log_metric("rmse", 0.5)


def run_all(tasks: int, at_once: int, task: Callable[..., None], *args: str) -> list[BaseException]:
    """Run a task for each index, some at once, and return their errors."""
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("fork")) as pool:
        futures = [pool.submit(task, *args, index) for index in range(tasks)]
    return [error for each in futures if (error := each.exception())]
