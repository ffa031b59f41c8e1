"""Workers whose clocks differ: the order of tries comes from Airflow, not from the clock."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from dev import MissingError
from mlflow_provider import task_run
from tries import fail, status_of

KILLED = """\
import os, signal, sys
sys.path[:0] = {path!r}
from dev import MissingError
from mlflow_provider import task_run
from tries import Try

with task_run(context=Try({run_id!r}, try_number=2).context, experiment={experiment!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def faketime() -> str:
    """Path of the program that runs another one with a shifted clock."""
    if program := shutil.which("faketime"):
        return program
    raise MissingError("There is no faketime on the PATH; on Debian and Ubuntu: apt-get install faketime")


@pytest.mark.fault(
    "The clock of one worker is an hour behind, and a task is killed there",
    sees="the run of that try KILLED, and a new one that links to it",
    green="by its next try",
)
def test_the_next_try_finds_the_run_of_the_last_one_with_any_clock(
    faketime, a_try, runs, experiment, fault_is_over
):
    fail(a_try, ValueError("no sales"), experiment=experiment)
    code = KILLED.format(path=sys.path, run_id=a_try.run_id, experiment=experiment)
    subprocess.run([faketime, "-m", "-f", "-1h", sys.executable, "-c", code], check=False)
    assert status_of(runs()) == ["RUNNING", "FAILED"]  # in the order of the clocks
    fault_is_over()
    a_try.try_number = 3
    with task_run(context=a_try.context, experiment=experiment):
        pass

    killed, failed, finished = runs()
    assert failed.info.start_time - killed.info.start_time > 3_000_000  # milliseconds
    assert status_of([killed, failed, finished]) == ["KILLED", "FAILED", "FINISHED"]
    assert finished.data.tags["airflow.retry_of"] == killed.info.run_id
