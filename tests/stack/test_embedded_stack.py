"""The stack without Docker, from a copy of the working tree to nothing left behind.

The tests are one story, told in order: each starts where the one before ended, because a start costs a
quarter of a minute.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient

from local import demo
from local.airflow_api import AirflowApi
from local.settings import LocalError
from mlflow_servers import free_port
from tests.helpers.clones import Clone, is_alive, wait_until

DAG_IDS = ["mlflow_tutorial_dag", "mlflow_hook_dag", "mlflow_operator_dag", "mlflow_task_dag"]
FAILING_DAG = """
from airflow.sdk import dag, task


@dag
def failing_dag():
    @task
    def break_down():
        raise RuntimeError("out of order")

    @task
    def never_started():
        pass

    break_down() >> never_started()


failing_dag()
"""
COMPONENTS = ["mlflow", "api-server", "scheduler", "dag-processor", "triggerer"]


def assert_shows_the_demo(clone: Clone, output: str) -> None:
    link = rf"http://localhost:{clone.mlflow_port}/#/experiments/\d+/runs/[0-9a-f]{{32}}"
    for dag_id in DAG_IDS:
        assert re.search(rf"^ {dag_id} +success +\d+ +{link} *$", output, re.MULTILINE), output
    assert f"Airflow  http://localhost:{clone.airflow_port}\n" in output
    assert f"MLflow   http://localhost:{clone.mlflow_port}\n" in output
    assert "\x1b" not in output


def test_before_anything_is_installed_down_and_status_have_nothing_to_do(clone):
    assert "Nothing is installed" in clone.make("down")
    assert "Nothing is installed" in clone.make("status", expect=2)
    assert not (clone.folder / ".venv").exists()


def test_the_demo_runs_from_nothing(clone):
    assert_shows_the_demo(clone, clone.make("demo", **clone.ports))


def test_everything_listens_on_loopback_only(clone):
    listening = clone.listening()
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == {clone.airflow_port, clone.mlflow_port}


def test_no_secret_is_in_the_arguments_or_logs_of_a_process(clone):
    config = (clone.folder / ".local/data/airflow/airflow.cfg").read_text()
    secrets = re.findall(r"^(?:fernet_key|secret_key|jwt_secret) = (.+)$", config, re.MULTILINE)
    assert len(secrets) == 3
    said = "".join(" ".join(process.cmdline()) for process in clone.processes())
    said += "".join(log.read_text() for log in (clone.folder / ".local/logs").iterdir())
    assert [secret for secret in secrets if secret in said] == []


def test_status_shows_every_component(clone):
    lines = clone.make("status").splitlines()
    for name in COMPONENTS:
        assert any(re.match(rf" {name} +up +\d+ ", line) for line in lines), lines


def test_the_demo_runs_again_and_finds_the_stack_by_itself(clone):
    output = clone.make("demo")
    assert output.startswith("Already up\n")
    assert_shows_the_demo(clone, output)


def test_a_dag_may_run_several_times_at_once(clone, airflow):
    before = clone.run_ids()
    run_ids = {dag_id: [airflow.trigger(dag_id) for _ in range(3)] for dag_id in DAG_IDS}
    runs = [(dag_id, run_id) for dag_id in DAG_IDS for run_id in run_ids[dag_id]]
    wait_until(lambda: all(airflow.dag_run(*run)["end_date"] for run in runs), 240)
    states = {run: airflow.dag_run(*run)["state"] for run in runs}
    assert states == dict.fromkeys(runs, "success")
    assert len(clone.run_ids() - before) == len(runs)


@pytest.fixture
def tutorial_run(clone, airflow, monkeypatch):
    """The ID of the tutorial's last DAG run; MLflow's client is set to see what it did."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{clone.mlflow_port}")
    runs = airflow._call("GET", f"/api/v2/dags/{demo.TUTORIAL}/dagRuns", params={"order_by": "-run_after"})
    return runs["dag_runs"][0]["dag_run_id"]


def test_the_demo_notices_a_wrong_tag(airflow, tutorial_run):
    client = MlflowClient()
    demo._check_tutorial(airflow, tutorial_run)
    client.set_registered_model_tag("Housing", "data", "cars")
    with pytest.raises(LocalError, match=r"tags of the registered model Housing .* seen .*'data': 'cars'"):
        demo._check_tutorial(airflow, tutorial_run)
    client.set_registered_model_tag("Housing", "data", "housing")


def test_the_demo_notices_a_model_that_computes_something_else(airflow, tutorial_run, tmp_path):
    client = MlflowClient()
    run_id = airflow.xcom(demo.TUTORIAL, tutorial_run, "mlflow_run_id")
    scaled = Path(client.download_artifacts(run_id, "scaled_features.csv", tmp_path)).read_text()
    header, first, *others = scaled.splitlines()
    client.log_text(run_id, "\n".join([header, first.replace("0", "1", 1), *others]), "scaled_features.csv")
    with pytest.raises(LocalError, match=r"wrong numbers in MLflow(.|\n)*Mismatched elements: 1 /"):
        demo._check_tutorial(airflow, tutorial_run)
    client.log_text(run_id, scaled, "scaled_features.csv")


def test_the_demo_shows_the_log_of_a_failed_task(clone, airflow):
    (clone.folder / "dags" / "failing_dag.py").write_text(FAILING_DAG)
    clone.make("up")  # returns when the new file is read
    run_id = airflow.trigger("failing_dag")
    wait_until(lambda: airflow.dag_run("failing_dag", run_id)["end_date"], 60)
    with pytest.raises(LocalError) as caught:
        demo._check_tasks(airflow, "failing_dag", run_id)
    assert str(caught.value).startswith("failing_dag: task break_down is failed, expected success.")
    assert "RuntimeError: out of order" in str(caught.value)
    (clone.folder / "dags" / "failing_dag.py").unlink()


def test_other_ports_are_refused_while_it_is_up(clone):
    output = clone.make("up", expect=2, MLFLOW_PORT=str(free_port()))
    assert f"MLFLOW_PORT={clone.mlflow_port}" in output
    assert "make down" in output


@pytest.mark.parametrize("which", [0, 1], ids=["parent", "child"])
def test_mlflow_comes_back_when_one_of_its_processes_is_killed(clone, which):
    before = clone.run_ids()
    processes = clone.mlflow_processes()
    processes[which].kill()
    wait_until(lambda: not any(map(is_alive, processes)), 30)  # the one that was not killed is useless
    clone.make("up")  # waits for what does not answer
    assert clone.run_ids() == before
    assert set(clone.mlflow_processes()).isdisjoint(processes)


def test_a_dag_run_ends_green_although_mlflow_is_killed_under_it(clone, airflow):
    before = clone.run_ids()
    processes = clone.mlflow_processes()
    run_id = airflow.trigger("mlflow_task_dag")

    def tasks() -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in airflow.task_instances("mlflow_task_dag", run_id)}

    wait_until(lambda: tasks().get("train") == "running", 30)
    for process in processes:
        process.kill()
    wait_until(lambda: airflow.dag_run("mlflow_task_dag", run_id)["end_date"], 180)
    assert tasks() == {"train": "success", "evaluate": "success"}
    assert before < clone.run_ids()


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
    wait_until(lambda: len(clone.processes()) > 3, 30)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode
    wait_until(lambda: not clone.processes(), 30)
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
    assert len(clone.run_ids()) >= 2 * len(DAG_IDS)
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
