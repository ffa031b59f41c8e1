"""Finding and ending the processes of a stack, with real ones."""

import os
import subprocess
import sys

import pytest

from local import processes
from local.settings import ROOT

SLEEP = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(100)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(100)",
]


@pytest.fixture
def spawn(monkeypatch):
    """A function that starts a process as a component of the stack, and returns when it runs."""
    # Not this clone: its stack may be up.
    monkeypatch.setattr(processes, "ROOT", "/nowhere/test")
    spawned = []

    def spawn_process(command, component):
        marks = {processes.STACK: "/nowhere/test", processes.COMPONENT: component}
        process = subprocess.Popen(command, env={**os.environ, **marks}, stdout=subprocess.PIPE)
        process.stdout.readline()
        spawned.append(process)
        return process

    yield spawn_process
    for process in spawned:
        process.kill()
        process.communicate()


def pids(found):
    return {process.pid for process in found}


def test_finds_processes_by_component(spawn):
    mlflow, scheduler = spawn(SLEEP, "mlflow"), spawn(SLEEP, "scheduler")
    assert pids(processes.find()) == {mlflow.pid, scheduler.pid}
    assert pids(processes.find("mlflow")) == {mlflow.pid}


def test_other_processes_are_not_found(spawn):
    spawn(SLEEP, "mlflow")
    assert os.getpid() not in pids(processes.find())


def test_ends_also_those_that_do_not_want_to(spawn):
    spawn(SLEEP, "mlflow")
    spawn(STUBBORN, "mlflow")
    processes.end(processes.find(), patience=0.5)
    assert processes.find() == []


def test_a_component_ends_what_an_earlier_life_of_it_left():
    marks = {processes.STACK: str(ROOT), processes.COMPONENT: "test"}
    with subprocess.Popen(SLEEP, env={**os.environ, **marks}, stdout=subprocess.PIPE) as orphan:
        orphan.stdout.readline()
        command = [sys.executable, "-m", "local.processes", "test", sys.executable, "-c", "print('started')"]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert said == "started\n"
        assert orphan.wait(timeout=5) != 0
