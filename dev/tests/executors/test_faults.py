"""Failures on many machines while two tracked tasks log: each try has one run, and none stays open."""

from __future__ import annotations

import pytest


@pytest.mark.fault(
    "On many machines: a worker is killed (`kill -9`) with its tasks, which have retries",
    sees="the runs of those tries KILLED, with the reason",
    green="by their next tries",
)
def test_tasks_of_a_killed_worker_are_retried_on_another(deployment, tasks, fault_is_over):
    baseline = tasks.steps()
    worker = tasks.worker(0)
    retried = [number for number in (0, 1) if tasks.worker(number) == worker]
    deployment.kill(worker)
    fault_is_over()
    tasks.wait_until_logging(*((number, 2) for number in retried))
    killed = {(number, 1): "KILLED" for number in retried}
    finished = {(number, 2 if number in retried else 1): "FINISHED" for number in (0, 1)}
    tasks.finish(killed | finished, baseline)


@pytest.mark.fault(
    "On many machines: MLflow is restarted while tasks log",
    sees="tasks that take longer",
    green="by itself",
)
def test_tasks_continue_when_mlflow_is_restarted(deployment, tasks, fault_is_over):
    deployment.restart_mlflow()
    fault_is_over()
    tasks.go_on()


@pytest.mark.fault(
    "On many machines: Airflow's scheduler is killed and restarted",
    sees="nothing",
    green="by itself",
)
def test_tasks_continue_when_the_scheduler_is_restarted(deployment, tasks, fault_is_over):
    deployment.restart_scheduler()
    fault_is_over()
    tasks.go_on()
