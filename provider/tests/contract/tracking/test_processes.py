"""Processes that a tracked task starts log to its run and do not end it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tries import status_of

TASK = """\
import os, signal, subprocess, sys
sys.path[:0] = {path!r}
import mlflow
from mlflow_provider import task_run
from tries import Try


def log(fold):
    mlflow.log_metric(f"rmse_{{fold}}", fold)


def on_term(*_):
    pass  # as Airflow's handler does in a process that a task has forked


def main():
    on_term.__module__ = "airflow.sdk.execution_time.task_runner"
    signal.signal(signal.SIGTERM, on_term)
    with task_run(context=Try({run_id!r}).context, experiment={experiment!r}) as run:
        {block}
        print(mlflow.get_run(run.info.run_id).info.status)


if __name__ == "__main__":
    main()
"""

FORK = """
        ready, starts = os.pipe()
        child = os.fork()
        if not child:
            os.write(starts, b"1")
            signal.pause()
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        log(0), log(1)
"""
# Python announces a signal only if it has a handler; without detaching, the parent's watcher also gets it.
OWN_HANDLER = """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))"""
FORK_THAT_RETURNS = """
        if not os.fork():
            sys.exit(log(0))
        os.wait()
        log(1)
"""
# A pool ends its processes with SIGTERM.
POOL = """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(log, range(2))
"""
JOBLIB_FORK = """
        import joblib
        joblib.Parallel(2, "multiprocessing")(joblib.delayed(log)(fold) for fold in range(2))
"""
JOBLIB = """
        import joblib
        joblib.Parallel(2, "loky")(joblib.delayed(log)(fold) for fold in range(2))
"""
SCRIPT = """
        code = "import mlflow; mlflow.start_run(); mlflow.log_metrics(dict(rmse_0=0, rmse_1=1))"
        subprocess.run([sys.executable, "-c", code], check=True)
        mlflow.start_run()
"""
SHELL_AFTER_A_CHILD = """
        with mlflow.start_run(nested=True):
            pass
        code = "import mlflow; mlflow.log_metrics(dict(rmse_0=0, rmse_1=1))"
        subprocess.run(f"{sys.executable} -c '{code}'", shell=True, check=True)
"""


@pytest.mark.parametrize(
    ("block", "status", "children"),
    [
        pytest.param(FORK, "RUNNING", 0, id="fork"),
        pytest.param(OWN_HANDLER + FORK, "RUNNING", 0, id="fork with a handler of its own"),
        pytest.param(FORK_THAT_RETURNS, "RUNNING", 0, id="fork that leaves the block"),
        pytest.param(POOL, "RUNNING", 0, id="Pool"),
        pytest.param(JOBLIB_FORK, "RUNNING", 0, id="joblib, multiprocessing"),
        pytest.param(JOBLIB, None, 0, id="joblib, loky"),
        pytest.param(SCRIPT, None, 0, id="script"),
        pytest.param(SHELL_AFTER_A_CHILD, None, 1, id="shell"),
    ],
)
def test_a_process_logs_to_the_run(a_try, runs, experiment, tmp_path, block, status, children):
    task = tmp_path / "task.py"
    code = TASK.format(path=sys.path, run_id=a_try.run_id, experiment=experiment, block=block.strip())
    task.write_text(code)
    process = subprocess.run(
        [sys.executable, task], stdout=subprocess.PIPE, text=True, timeout=300, check=True
    )

    if status:  # a process of its own ends the run for a moment, as MLflow does
        assert process.stdout.split()[-1] == status
    run, *others = runs()
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"rmse_0": 0.0, "rmse_1": 1.0})
    assert status_of(others) == ["FINISHED"] * children
