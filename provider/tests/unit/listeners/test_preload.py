"""Imports of the setting ``[mlflow] preload``; each test runs in a new process, because imports stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Airflow itself calls its listeners when the process of a component or of a task starts.
PRELUDE = """
import gc, json, multiprocessing, os, sys, threading, warnings
from airflow.jobs.job import Job

def start_task():
    from airflow.sdk.execution_time import task_runner
    hook = task_runner.get_listener_manager().hook
    hook.on_starting(component=task_runner.TaskRunnerMarker())
    hook.on_task_instance_running(previous_state=None, task_instance=None)

def say_in_fork(*expressions):
    reader, writer = os.pipe()
    if not os.fork():
        start_task()
        os.write(writer, json.dumps([eval(expression) for expression in expressions]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(reader, 10_000))
"""
NOISY = """
import warnings
warnings.warn("old", DeprecationWarning)
warnings.filterwarnings("error", "a filter of this module")
"""
WITH_THREAD = """
import threading
threading.Thread(target=threading.Event().wait, name="watcher", daemon=True).start()
"""
SLOW = """
import time
from datetime import datetime, timezone
time.sleep(0.1)
imported_at = datetime.now(timezone.utc)
"""
FAR_EXECUTOR = """
from airflow.executors.base_executor import BaseExecutor
class FarExecutor(BaseExecutor):
    pass
"""


@pytest.fixture
def start(tmp_path):
    """Start a component in a new process, run code in it, and return its output and the log."""

    def start(component: str, code: str, preload: str | None = "ready", **settings: str) -> tuple[Any, str]:
        if preload is not None:
            settings["AIRFLOW__MLFLOW__PRELOAD"] = preload
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        # Without what scikit-learn has set, if another test imported it.
        unset = {name: value for name, value in os.environ.items() if not name.startswith("KMP_")}
        process = subprocess.run(
            [sys.executable, "-c", PRELUDE + code, *component.split()],
            env={**unset, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1]), process.stdout + process.stderr

    return start


@pytest.fixture(autouse=True)
def modules(tmp_path: Path) -> None:
    sources = {
        "ready": "",
        "broken": "raise ValueError('no licence')",
        "leaves": "raise SystemExit(3)",
        "noisy": NOISY,
        "with_thread": WITH_THREAD,
        "slow": SLOW,
        "far": FAR_EXECUTOR,
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)


IS_READY = "Job(); print(json.dumps('ready' in sys.modules))"


def test_a_scheduler_imports_them_and_says_so(start):
    imported, log = start("scheduler", IS_READY, " ready ,json.tool,")

    assert imported
    assert log.count("Preloaded for tasks") == 1
    assert "ready, json.tool" in log


@pytest.mark.parametrize(
    "component", ["triggerer", "dag-processor", "api-server", "tasks run", "celery flower"]
)
def test_other_components_import_nothing(start, component):
    imported, _ = start(component, IS_READY)

    assert not imported


def test_without_the_setting_nothing_is_imported(start):
    state, log = start(
        "scheduler", "Job(); print(json.dumps(['mlflow' in sys.modules, gc.isenabled()]))", None
    )

    assert state == [False, True]
    assert "preload" not in log


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param(
            "import psutil; sys.platform = 'darwin'", id="macOS, where a task gets a new interpreter"
        ),
        pytest.param("multiprocessing.set_start_method('spawn')", id="workers that are not forked"),
    ],
)
def test_nothing_is_imported_if_tasks_are_not_forked(start, condition):
    imported, _ = start("scheduler", f"{condition}; {IS_READY}")

    assert not imported


def test_nothing_is_imported_if_tasks_run_elsewhere(start):
    imported, _ = start("scheduler", IS_READY, AIRFLOW__CORE__EXECUTOR="far.FarExecutor")

    assert not imported


def test_modules_that_cannot_be_imported_are_warnings_and_the_others_are_imported(start):
    imported, log = start("scheduler", IS_READY, "broken, no_such_module, leaves, ready")

    assert imported
    assert "module broken cannot be imported: ValueError: no licence" in log
    assert "module no_such_module cannot be imported: ModuleNotFoundError" in log
    assert "module leaves cannot be imported: SystemExit: 3" in log


def test_warnings_of_a_module_are_not_shown_but_its_filters_stay(start):
    has_filter, log = start(
        "scheduler",
        "warnings.simplefilter('always'); Job(); warnings.warn('shown again');"
        "print(json.dumps(any('a filter' in str(filter[1]) for filter in warnings.filters)))",
        "noisy",
    )

    assert has_filter
    assert "DeprecationWarning" not in log
    assert "shown again" in log


def test_a_module_that_starts_a_thread_is_warned_of(start):
    _, log = start("scheduler", "Job(); print(json.dumps(threading.active_count()))", "with_thread, ready")

    assert "module with_thread started threads (watcher)" in log
    assert "module ready started" not in log


def test_a_long_import_does_not_look_like_a_scheduler_that_has_ended(start):
    code = "job = Job(); import slow; print(json.dumps(job.latest_heartbeat >= slow.imported_at))"

    is_later, _ = start("scheduler", code, "slow")

    assert is_later


@pytest.mark.parametrize(
    ("start_scheduler", "name"),
    [
        ("preload.on_starting(object())", "Job.latest_heartbeat"),
        ("sys.modules['airflow.sdk.execution_time.supervisor'] = None; Job()", "execution_time.supervisor"),
    ],
)
def test_a_scheduler_starts_without_a_private_name_of_airflow(start, start_scheduler, name):
    code = "from mlflow_provider.listeners import preload; " + start_scheduler

    imported, log = start("scheduler", f"{code}; print(json.dumps('ready' in sys.modules))")

    assert imported
    assert f"{name}: " in log


def test_a_forked_task_imports_nothing_again(start):
    _, log = start("scheduler", "Job(); print(json.dumps(say_in_fork('1')))", "broken, ready")

    assert log.count("Preloaded for tasks") == 1
    assert log.count("module broken cannot be imported") == 1
    assert "latest_heartbeat" not in log


MODULES = "mlflow, mlflow.sklearn, pandas, sklearn.linear_model, sklearn.ensemble, skops.io"


def test_the_usual_modules_leave_nothing_that_a_fork_would_break(start):
    code = """
import random, psutil
from airflow.executors.local_executor import LocalExecutor
random.seed(1); before = random.getstate()
variables, directory = dict(os.environ), os.getcwd()
Job()
import mlflow
changed = {name for name in {*os.environ, *variables} if os.environ.get(name) != variables.get(name)}
print(json.dumps({
    "threads": threading.active_count(),
    "threads in a fork": say_in_fork("__import__('psutil').Process().num_threads()")[0],
    "sockets": len(psutil.Process().net_connections()),
    "children": len(psutil.Process().children()),
    "variables": sorted(changed),
    "folder": os.getcwd() == directory,
    "random": random.getstate() == before,
    "run": mlflow.active_run() is None,
    "S3": "boto3" in sys.modules and sys.modules["boto3"].DEFAULT_SESSION is not None,
    "telemetry": hasattr(mlflow, "telemetry") and mlflow.telemetry.get_telemetry_client() is not None,
}))
"""

    state, log = start("scheduler", code, MODULES, MLFLOW_DISABLE_TELEMETRY="false")

    assert state == {
        "threads": 1,
        "threads in a fork": 1,
        "sockets": 0,
        "children": 0,
        "variables": ["KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"],  # scikit-learn's, for OpenMP and forks
        "folder": True,
        "random": True,
        "run": True,
        "S3": False,
        "telemetry": False,
    }
    assert "cannot be imported" not in log


def test_a_tracked_task_need_not_import_what_mlflow_leaves_for_its_first_request(start):
    code = """
Job()
import mlflow
from mlflow_provider.decorators.mlflow import mlflow_task
from mlflow_provider.hooks.client import MLflowClientHook
before = set(sys.modules)
nothing_there = {"conn_type": "mlflow", "host": "http://localhost:1", "extra": {"retries": 0}}
os.environ["AIRFLOW_CONN_MLFLOW_DEFAULT"] = json.dumps(nothing_there)
mlflow.set_tracking_uri("http://localhost:1")
for ask in MLflowClientHook().get_or_create_experiment, mlflow.MlflowClient().get_run:
    try:
        ask("1")
    except Exception as error:
        print(error)
heavy = ("opentelemetry", "mlflow_provider", "mlflow.tracking")
print(json.dumps([name for name in sys.modules if name not in before and name.startswith(heavy)]))
"""

    imported, log = start("scheduler", code, "mlflow", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")

    assert imported == []
    assert "nothing listens on that port" in log
    assert "Max retries exceeded" in log


def test_a_broken_plugin_of_mlflow_does_not_keep_the_scheduler_from_starting(start, tmp_path):
    plugin = tmp_path / "plugin-1.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Name: plugin\nVersion: 1\n")
    (plugin / "entry_points.txt").write_text("[mlflow.request_header_provider]\nits = broken:Provider\n")

    imported, log = start("scheduler", IS_READY, "mlflow, ready")

    assert imported
    assert "mlflow, ready" in log


def test_each_task_draws_its_own_random_numbers(start):
    code = """
Job()
draws = ("__import__('random').random()", "__import__('numpy').random.random()")
print(json.dumps([say_in_fork(*draws), say_in_fork(*draws)]))
"""

    (first, second), _ = start("scheduler", code, "numpy")

    assert first[0] != second[0]
    assert first[1] != second[1]


def test_what_a_task_seeds_itself_stays_in_the_processes_it_forks(start):
    code = """
Job()
start_task()
import numpy
numpy.random.seed(42)
expected = numpy.random.RandomState(42).random_sample()
reader, writer = os.pipe()
if not os.fork():
    os.write(writer, str(numpy.random.random() == expected).encode())
    os._exit(0)
os.wait()
print(json.dumps(os.read(reader, 10).decode()))
"""

    is_as_seeded, _ = start("scheduler", code, "numpy")

    assert is_as_seeded == "True"


def test_what_was_imported_is_kept_out_of_garbage_collection(start):
    """Garbage collection would write to it, and so copy it into each task's process."""
    state, _ = start("scheduler", "Job(); print(json.dumps([gc.get_freeze_count() > 0, gc.isenabled()]))")

    assert state == [True, True]


def test_it_is_kept_out_of_it_also_when_the_workers_are_forked(start):
    """LocalExecutor then unfreezes all objects (not in Airflow 3.1.0)."""
    code = """
from airflow.executors.local_executor import LocalExecutor
Job()
executor = LocalExecutor(parallelism=1)
executor.start()
gc.collect()
is_frozen = gc.get_freeze_count() > 0
executor.end()
print(json.dumps(is_frozen))
"""

    is_frozen, _ = start("scheduler", code)

    assert is_frozen


def test_modules_that_airflow_leaves_for_the_first_task_are_imported(start):
    code = """
Job()
names = ["airflow.sdk.execution_time.supervisor", "airflow.providers.standard.decorators.python"]
print(json.dumps([name for name in names if name not in sys.modules]))
"""

    missing, _ = start("scheduler", code)

    assert missing == []
