"""Import modules once in the process that forks the tasks, so that each task has them already.

Airflow's setting ``[mlflow] preload`` names them. They are imported as the scheduler starts, where
LocalExecutor forks its workers from it, and as a Celery worker starts. Elsewhere nothing is imported: on
macOS a task gets a new interpreter, and so it does in a pod.

Airflow loads this module in two ways. As a listener it hears of the scheduler, and in each task of the task
itself. As a policy it is loaded as every process starts: a Celery worker has no listeners.

.. seealso:: https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/listeners.html
"""

from __future__ import annotations

import gc
import importlib
import logging
import multiprocessing
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from airflow.configuration import conf
from airflow.listeners import hookimpl

log = logging.getLogger(__name__)

# What this process, or one that it was forked from, has imported.
_imported: list[str] = []

# What Airflow leaves for the first task: of the worker that runs it, and of each process that runs one.
_OF_TASKS = ("airflow.sdk.execution_time.supervisor", "airflow.providers.standard.decorators.python")

# What a tracked task imports besides: of this provider, and of mlflow, which leaves a part of itself for its
# first request. One that cannot be imported here is imported by the task, which says why it cannot.
_OF_TRACKED_TASKS = (
    "mlflow_provider.decorators.mlflow",
    "mlflow_provider.server.rest",
    "mlflow.tracing.processor.base_mlflow",
    "mlflow.tracking.request_header.registry",
)


@hookimpl
def on_starting(component: Any) -> None:
    """Import the modules in a scheduler that forks its tasks; in a task, draw random numbers of its own."""
    if type(component).__name__ == "TaskRunnerMarker":
        _renew_random_state()
    elif sys.argv[1:2] == ["scheduler"] and _tasks_are_forked_from_scheduler():
        from mlflow_provider.version_compat import renew_heartbeat

        preload()
        renew_heartbeat(component)  # Airflow would treat a long import as a dead scheduler


def on_celery_worker_init(**_: Any) -> None:
    """Import the modules in a Celery worker, before it forks its pool."""
    preload()


def preload() -> None:
    """Import the modules of the setting ``[mlflow] preload``; one that cannot be is a warning in the log."""
    names = [name.strip() for name in conf.get("mlflow", "preload", fallback="").split(",") if name.strip()]
    if not names or sys.platform == "darwin":
        return
    from mlflow_provider.process.environment import environment

    start = time.monotonic()
    # MLflow's telemetry would start a thread, which a forked process does not have.
    with environment({"MLFLOW_DISABLE_TELEMETRY": "true"}), _without_warnings(), _without_collection():
        _imported.extend(name for name in names if _import(name))
        for name in (*_OF_TASKS, *(_OF_TRACKED_TASKS if "mlflow" in sys.modules else ())):
            with suppress(Exception):
                importlib.import_module(name)
    seconds = time.monotonic() - start
    log.info("Imported for the tasks that are forked from here, in %.1f s: %s", seconds, ", ".join(_imported))


def _import(name: str) -> bool:
    threads = set(threading.enumerate())
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the scheduler starts without it
        log.warning(
            "[mlflow] preload: module %s cannot be imported: %s: %s", name, type(error).__name__, error
        )
        return False
    if started := set(threading.enumerate()) - threads:
        log.warning(
            "[mlflow] preload: module %s started threads (%s). Tasks do not have them after the fork, "
            "and may wait for them: leave the module out.",
            name,
            ", ".join(thread.name for thread in started),
        )
    return True


def _tasks_are_forked_from_scheduler() -> bool:
    return multiprocessing.get_start_method() == "fork" and "LocalExecutor" in conf.get("core", "executor")


def _renew_random_state() -> None:
    """Seed NumPy's global generator anew: all tasks would draw the same numbers, as they share its import.

    Python's own does so by itself.
    """
    if _imported and (numpy := sys.modules.get("numpy")):
        numpy.random.seed()


@contextmanager
def _without_warnings() -> Iterator[None]:
    # Some packages warn a thousand times. Not by catch_warnings(), which would undo the filters they set.
    showwarning = warnings.showwarning
    warnings.showwarning = lambda *_, **__: None
    try:
        yield
    finally:
        warnings.showwarning = showwarning


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep the garbage collector out of a block, and from then on out of all that was made in it.

    It would write to each object that it looks at, and so make a copy of its page in each forked process.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        gc.callbacks.append(_stay_frozen)


def _stay_frozen(phase: str, info: Mapping[str, int]) -> None:
    """Freeze again what LocalExecutor unfreezes once it has forked its workers, before all is looked at."""
    if phase == "start" and info["generation"] == 2 and not gc.get_freeze_count():
        gc.freeze()


if sys.argv[1:3] == ["celery", "worker"]:
    from celery.signals import worker_init

    worker_init.connect(on_celery_worker_init)
