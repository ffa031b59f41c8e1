"""The name that a scheduler chooses as it starts, in Airflow's database; each is a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Airflow itself calls its listeners.
START = """
import sys
from airflow.jobs.job import Job
from airflow.models.variable import Variable
from airflow.sdk.execution_time import task_runner
from mlflow_provider.tracking import deployment

def wait(state):
    print(state, flush=True)
    return sys.stdin.readline()

random_name = deployment._random_name
deployment._random_name = lambda: wait("has found none") and random_name()
if wait("ready") == "task\\n":
    task_runner.get_listener_manager().hook.on_starting(component=task_runner.TaskRunnerMarker())
else:
    Job()
print("name:", Variable.get("mlflow_deployment", ""))
"""

Python = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database of Airflow."""
    home = tmp_path_factory.mktemp("airflow")
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env={**os.environ, "AIRFLOW_HOME": str(home)},
        check=True,
        capture_output=True,
    )
    return home / "airflow.db"


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> None:
    """Give the test a database in which no name was chosen."""
    shutil.copy(migrated, tmp_path)


@pytest.fixture
def python(tmp_path: Path) -> Python:
    """Start Python in an Airflow of its own."""
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    del environment["AIRFLOW_VAR_MLFLOW_DEPLOYMENT"]

    def python(code: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**environment, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return python


def start(python: Python, *components: str, what: str = "component", **variables: str) -> list[list[str]]:
    """Start components at the same moment, and return the name that each then finds, if there is one."""
    processes = [python(START, component, **variables) for component in components]
    tell(processes, "ready", what)
    return names_found_by(processes)


def tell(processes: list[subprocess.Popen[str]], state: str, line: str) -> None:
    """Wait until all processes are in a state, then give each a line."""
    for process in processes:
        while process.stdout.readline() != f"{state}\n":
            assert process.poll() is None
    for process in processes:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()


def names_found_by(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    """Return the name that each process finds at its end, if there is one."""
    outputs = [process.communicate("go on\n")[0] for process in processes]
    assert not [output for output in outputs if "No name was chosen" in output]
    return [output[output.index("name:") :].split()[1:] for output in outputs]


def test_schedulers_that_start_at_the_same_moment_choose_one_name(python, database):
    processes = [python(START, "scheduler") for _ in range(4)]
    tell(processes, "ready", "component")
    tell(processes, "has found none", "go on")
    names = names_found_by(processes)

    assert names == [names[0]] * 4
    assert len(names[0]) == 1


def test_a_scheduler_keeps_the_name_that_there_is(python, database):
    names = start(python, "scheduler")

    assert start(python, "scheduler") == names != [[]]


def test_a_configured_name_is_not_replaced(python, database):
    assert start(python, "scheduler", AIRFLOW_VAR_MLFLOW_DEPLOYMENT="production") == [["production"]]
    assert start(python, "triggerer") == [[]]


def test_other_components_choose_none(python, database):
    assert start(python, "triggerer", "dag-processor", "api-server") == [[], [], []]


def test_a_task_that_a_scheduler_has_forked_chooses_none(python, database):
    assert start(python, "scheduler", what="task") == [[]]


def test_without_a_database_a_scheduler_starts_and_says_what_is_missing(python):
    output, _ = python(START, "scheduler").communicate("component\ngo on\n")

    assert "No name was chosen that tells this deployment's MLflow runs from others'" in output
    assert "no such table: variable" in output
