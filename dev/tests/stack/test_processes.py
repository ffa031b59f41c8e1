"""The processes of the stack: what they expose, and their recovery when they are killed."""

from __future__ import annotations

import os
import re
import sys

import pytest

from dev.tests.helpers.clones import is_alive
from dev.tests.helpers.embedded_stack import COMPONENTS
from dev.waiting import wait_until


def test_everything_listens_on_loopback_only(stack):
    listening = stack.clone.listening()
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == {stack.clone.airflow_port, stack.clone.mlflow_port}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has SCHED_BATCH")
def test_the_scheduler_and_its_children_do_not_preempt_a_task_that_ends(stack):
    scheduler = stack.processes("scheduler")
    assert len(scheduler) > 1  # with LocalExecutor's workers, which fork supervisors and tasks
    assert {os.sched_getscheduler(process.pid) for process in scheduler} == {os.SCHED_BATCH}


def test_status_shows_every_component(stack):
    lines = stack.clone.make("status").splitlines()
    for name in COMPONENTS:
        assert any(re.match(rf" {name} +up +\d+ ", line) for line in lines), lines


def test_a_task_finds_the_programs_of_its_environment(stack):
    run_id = stack.run("programs")

    def result(task_id: str) -> str:
        return stack.airflow.xcom("programs", run_id, "return_value", task_id)

    folder = stack.clone.folder
    programs = [folder / ".venv/bin/python", folder / ".venv/bin/mlflow", folder / ".local/bin/uv"]
    assert result("find") == " ".join(map(str, programs))
    assert result("base_of_python") == sys.base_prefix


def test_status_waits_for_a_component_that_was_just_restarted(idle_stack):
    idle_stack.kill("triggerer")

    assert re.search(r" triggerer +up ", idle_stack.clone.make("status"))


@pytest.mark.fault(
    "One of MLflow's processes is killed",
    sees="nothing; it is restarted",
    green="by itself",
)
@pytest.mark.parametrize("which", [0, 1], ids=["parent", "child"])
def test_mlflow_restarts_when_one_of_its_processes_is_killed(idle_stack, which):
    clone = idle_stack.clone
    baseline = clone.run_ids()
    processes = idle_stack.processes("mlflow")
    assert len(processes) == 2
    processes[which].kill()
    wait_until("neither is left", lambda: not any(map(is_alive, processes)))
    clone.make("up")  # waits for the new one
    assert clone.run_ids() == baseline
    assert set(idle_stack.processes("mlflow")).isdisjoint(processes)


@pytest.mark.fault(
    "MLflow is killed during a DAG run",
    sees="tasks that take longer",
    green="by itself",
)
def test_a_dag_run_succeeds_although_mlflow_is_killed(idle_stack):
    baseline = idle_stack.clone.run_ids()
    processes = idle_stack.processes("mlflow")
    run_id = idle_stack.airflow.trigger("mlflow_task_dag")
    wait_until(
        "the training runs",
        lambda: idle_stack.task_states("mlflow_task_dag", run_id),
        lambda states: states.get("train") == "running",
    )
    for process in processes:
        process.kill()
    idle_stack.wait_for_end("mlflow_task_dag", run_id)
    assert idle_stack.task_states("mlflow_task_dag", run_id) == {"train": "success", "evaluate": "success"}
    assert baseline < idle_stack.clone.run_ids()
