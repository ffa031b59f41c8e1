"""Parts of the stack, or all of it, die while a tracked task runs. Only `make -C dev faults` runs these."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil
import pytest

from dev.tests.helpers.clones import is_alive
from dev.waiting import wait_until

OUTAGE_SECONDS = 20


@pytest.mark.fault(
    "MLflow is down for 20 s while a task runs", sees="a task that takes longer", green="by itself"
)
def test_a_task_survives_twenty_seconds_without_mlflow(idle_stack, start_logging, fault_is_over):
    logging = start_logging(idle_stack)
    logging.wait_for_run()
    idle_stack.stop("mlflow")
    time.sleep(OUTAGE_SECONDS)
    idle_stack.clone.make("up")
    fault_is_over()
    logging.stop()

    assert logging.wait_for_end()["state"] == "success"
    assert logging.statuses() == ["FINISHED"]


@pytest.mark.fault(
    "Airflow's scheduler is killed while a task runs, and the task with it",
    sees="the run of that try KILLED, and a new one, within a minute or two",
    green="by itself",
)
def test_a_task_whose_scheduler_is_killed_runs_again(idle_stack, start_logging, fault_is_over):
    logging = start_logging(idle_stack)
    logging.wait_for_run()
    idle_stack.kill("scheduler")
    fault_is_over()
    logging.wait_for_run(number=2)
    logging.stop()

    assert logging.wait_for_end()["state"] == "success"
    assert logging.statuses() == ["KILLED", "FINISHED"]


@pytest.mark.fault(
    "The whole stack is killed (`kill -9`) while a task runs, and restarted",
    sees="the run of that try KILLED, and a new one",
    green="by itself, after `make up`",
)
def test_a_task_whose_stack_is_killed_runs_again(idle_stack, start_logging, fault_is_over):
    logging = start_logging(idle_stack)
    logging.wait_for_run()
    baseline = idle_stack.clone.run_ids()
    processes = idle_stack.clone.processes()
    for act in (
        psutil.Process.suspend,
        psutil.Process.kill,
    ):  # all at once, so that none sees another one end
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                act(process)
    wait_until("nothing is left", lambda: not any(map(is_alive, processes)))
    idle_stack.clone.make("down", "up")
    fault_is_over()
    idle_stack.wait_until_whole()
    logging.wait_for_run(number=2)
    logging.stop()

    assert logging.wait_for_end()["state"] == "success"
    assert logging.statuses() == ["KILLED", "FINISHED"]
    assert baseline < idle_stack.clone.run_ids()
