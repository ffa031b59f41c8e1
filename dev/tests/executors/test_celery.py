"""Failures of Celery only: the workers' network, the queue, and tasks that it hands out twice."""

from __future__ import annotations

import time

import pytest
import requests

from dev.tests.executors.celery import WORKERS
from dev.tests.executors.tracked_dag_run import FIRST_TRIES
from dev.waiting import wait_until

IGNORED = "Task already running elsewhere, ignoring redelivered message"


def test_each_worker_has_imported_mlflow_for_its_tasks(deployment):
    workers = deployment.workers()
    assert len(workers) == WORKERS
    for worker in workers:
        assert "Preloaded for tasks" in deployment.docker("logs", worker)


@pytest.mark.parametrize(
    ("host", "is_known"), [("localhost", True), ("api-server:8080", True), ("example.com", False)]
)
def test_the_api_server_answers_workers_and_this_machine_only(deployment, host, is_known):
    url = f"http://127.0.0.1:{deployment.ports.airflow}/auth/token"
    assert requests.get(url, headers={"Host": host}, timeout=60).ok is is_known


def test_airflow_shows_a_log_from_a_worker(deployment, run_dag):
    tasks = run_dag("logs_until_stopped")
    tasks.finish(dict.fromkeys(FIRST_TRIES, "FINISHED"))
    task = deployment.airflow.task_instance(tasks.dag_id, tasks.run_id, tasks.dag_id, 0)
    assert "MLflow run logs_until_stopped[0]: " in deployment.airflow.log(tasks.dag_id, tasks.run_id, task)


@pytest.mark.fault(
    "With Celery: the network of a worker is cut for 30 s",
    sees="tasks that take longer",
    green="by itself",
)
def test_tasks_of_a_worker_continue_when_its_network_is_back(deployment, tasks, fault_is_over):
    with deployment.network_cut(tasks.worker(0)):
        time.sleep(5)  # for requests under way
        cut = tasks.steps()[0, 1]
        time.sleep(25)
        assert tasks.steps()[0, 1] == cut
    fault_is_over()
    tasks.go_on()


@pytest.mark.fault(
    "With Celery: the queue (Redis, Valkey) is killed and restarted while tasks run and wait in it",
    sees="tasks that start later",
    green="by itself",
)
def test_no_task_is_lost_when_the_queue_is_restarted(deployment, tasks, run_dag, fault_is_over):
    sweep = run_dag("sweep")
    wait_until("tasks of the sweep have begun", sweep.runs)
    deployment.restart_queue()
    fault_is_over()
    tasks.go_on()
    sweep.finish({(number, 1): "FINISHED" for number in range(64)})


@pytest.mark.fault(
    "With Celery: a task is handed out again because it runs longer than the queue's visibility timeout",
    sees="in the worker's log: Task already running elsewhere",
    green="all along",
)
def test_a_task_that_is_delivered_twice_runs_once(deployment, tasks):
    since = f"--since={time.time():.3f}"  # a restart of the queue also causes it
    with deployment.impatient_worker():
        wait_until(
            "a worker gets a task that runs elsewhere",
            lambda: "".join(deployment.docker("logs", since, name) for name in deployment.workers()),
            lambda logs: IGNORED in logs,
        )
    tasks.go_on()
