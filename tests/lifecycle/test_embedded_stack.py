"""The stack without Docker, started and stopped in all the ways there are.

The tests are one story, told in order: each starts where the one before ended, because a start costs a
quarter of a minute.
"""

from __future__ import annotations

import os
import signal
import socket

from local.airflow_api import AirflowApi
from tests.helpers.clones import wait_until
from tests.servers import free_port

DAG_IDS = ["mlflow_tutorial_dag", "mlflow_hook_dag", "mlflow_operator_dag", "mlflow_task_dag"]


def test_before_anything_is_installed_down_and_status_have_nothing_to_do(clone):
    assert "Nothing is installed" in clone.make("down")
    assert "Nothing is installed" in clone.make("status", expect=2)
    assert not (clone.folder / ".venv").exists()


def test_the_demo_runs_from_nothing(clone):
    clone.make("demo", **clone.ports)


def test_other_ports_are_refused_while_it_is_up(clone):
    output = clone.make("up", expect=2, MLFLOW_PORT=str(free_port()))
    assert f"MLFLOW_PORT={clone.mlflow_port}" in output
    assert "make down" in output


def test_down_leaves_nothing_running_and_no_port_held(clone):
    assert "Stopped" in clone.make("down")
    clone.assert_nothing_is_left()
    assert "Nothing was running" in clone.make("down")
    assert "Down" in clone.make("status", expect=2)


def test_a_taken_port_is_named_and_nothing_is_started(clone):
    with socket.create_server(("127.0.0.1", clone.mlflow_port)):
        output = clone.make("up", expect=2, **clone.ports)
    assert f"Port {clone.mlflow_port} is taken by" in output
    assert "MLFLOW_PORT=" in output
    clone.assert_nothing_is_left()


def test_an_interrupted_start_leaves_nothing(clone):
    process = clone.start("up", **clone.ports)
    wait_until("it starts", lambda: len(clone.processes()) > 3)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode
    wait_until("it has stopped", clone.processes, lambda found: not found)
    clone.assert_nothing_is_left()


def test_a_component_that_does_not_come_up_is_told_with_its_log(clone):
    database = clone.folder / ".local/data/mlflow/mlflow.db"
    kept = database.rename(database.with_suffix(".kept"))
    database.write_text("this is no database")
    output = clone.make("up", expect=2, **clone.ports)
    assert "mlflow does not come up" in output
    assert "file is not a database" in output
    clone.assert_nothing_is_left()
    kept.rename(database)


def test_data_outlive_the_stack(clone):
    clone.make("up", **clone.ports)
    assert len(clone.run_ids()) >= len(DAG_IDS)
    airflow = AirflowApi(clone.airflow_port)
    airflow.log_in()
    assert {f"{dag_id}.py" for dag_id in DAG_IDS} <= set(airflow.parsed())


def test_a_broken_dag_file_is_told_and_stops_nobody(clone):
    (clone.folder / "dags" / "broken.py").write_text("from airflow.sdk import dag\nimport no_such_module\n")
    output = clone.make("up")
    assert "dags/broken.py: Airflow cannot import it" in output
    assert "No module named 'no_such_module'" in output


def test_down_finds_what_a_killed_supervisor_left(clone):
    supervisor = next(process for process in clone.processes() if "local.supervisord" in process.cmdline())
    supervisor.kill()
    assert "The supervisor was killed" in clone.make("status", expect=2)
    assert "Stopped" in clone.make("down")
    clone.assert_nothing_is_left()
