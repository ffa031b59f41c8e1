"""Import modules once in the process that forks the tasks, so that tasks need not import them.

Airflow's setting ``[mlflow] preload`` names the modules. They are imported when a scheduler with
LocalExecutor or a Celery worker starts. Nothing is imported elsewhere: on macOS and in pods, a task gets a
new interpreter.

Airflow loads this module in two ways. As a listener, it is called when the scheduler starts, and in each
task. As a policy, it is loaded when a process starts, because a Celery worker has no listeners.

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

# Modules that this process, or the process that it was forked from, was to import.
_preloaded: list[str] = []

# Modules that a tracked task imports as well.
_OF_TRACKED_TASKS = ("mlflow_provider.decorators.mlflow", "mlflow_provider.server.rest")


@hookimpl
def on_starting(component: Any) -> None:
    """Import the modules in a scheduler that forks its tasks."""
    is_forked_task = bool(_preloaded)  # which has the arguments of the scheduler
    if is_forked_task or sys.argv[1:2] != ["scheduler"] or not _tasks_are_forked_from_scheduler():
        return
    preload()
    if _preloaded:
        from mlflow_provider.version_compat import renew_heartbeat

        renew_heartbeat(component)  # Airflow would treat a long import as a dead scheduler


@hookimpl
def on_task_instance_running() -> None:
    """Reseed NumPy's global generator in a task; otherwise all tasks would draw the same numbers.

    Python reseeds its own after a fork.
    """
    if _preloaded and (numpy := sys.modules.get("numpy")):
        numpy.random.seed()


def on_celery_worker_init(**_: Any) -> None:
    """Import the modules in a Celery worker, before it forks its pool."""
    preload()


def preload() -> None:
    """Import the modules of the setting ``[mlflow] preload``; log a warning for each that fails."""
    names = [name.strip() for name in conf.get("mlflow", "preload", fallback="").split(",") if name.strip()]
    if not names or sys.platform == "darwin":
        return
    from mlflow_provider.process import mlflow_private
    from mlflow_provider.process.environment import environment
    from mlflow_provider.version_compat import import_supervisor

    _preloaded.extend(names)

    start = time.monotonic()
    # MLflow's telemetry would start a thread, which a forked process does not have.
    with environment({"MLFLOW_DISABLE_TELEMETRY": "true"}), _without_warnings(), _without_collection():
        imported = [name for name in names if _import(name)]
        import_supervisor()
        is_tracking = "mlflow" in sys.modules
        for name in (
            "airflow.providers.standard.decorators.python",
            *(_OF_TRACKED_TASKS if is_tracking else ()),
        ):
            with suppress(Exception):  # the task imports it, and reports why it cannot
                importlib.import_module(name)
        for private_name in (mlflow_private.TRACING, mlflow_private.REQUEST_HEADERS) if is_tracking else ():
            with mlflow_private.optional(private_name):
                importlib.import_module(private_name.path)
    seconds = time.monotonic() - start
    log.info("Preloaded for tasks in %.1f s: %s", seconds, ", ".join(imported))


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


@contextmanager
def _without_warnings() -> Iterator[None]:
    # Some packages warn a thousand times. catch_warnings() would undo the filters that they set.
    showwarning = warnings.showwarning
    warnings.showwarning = lambda *_, **__: None
    try:
        yield
    finally:
        warnings.showwarning = showwarning


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep the garbage collector from running in a block, and later from visiting the block's objects.

    It writes to each object that it visits, which copies the object's memory page in each forked process.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        gc.callbacks.append(_stay_frozen)


def _stay_frozen(phase: str, info: Mapping[str, int]) -> None:
    """Freeze the objects again that LocalExecutor unfreezes after it has forked its workers."""
    if phase == "start" and info["generation"] == 2 and not gc.get_freeze_count():
        gc.freeze()


if sys.argv[1:3] == ["celery", "worker"]:
    from celery.signals import worker_init

    worker_init.connect(on_celery_worker_init)
