"""Starting and stopping the stack, and recovering from failures."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess

import pytest
import requests

from dev.waiting import wait_until
from local_stack.airflow_api import AirflowApi

LESSONS = ("tutorial", "hook", "operator", "package", "task")
DAG_IDS = [f"mlflow_{name}_dag" for name in LESSONS]


def test_down_leaves_nothing_running_and_no_port_held(running):
    assert "Stopped" in running.make("down")
    running.assert_nothing_is_left()
    assert "Nothing was running" in running.make("down")
    assert running.make("status") == "Nothing is running. Run `make up` to start everything.\n"


def test_down_and_up_in_one_call_run_in_order_even_with_j2(running):
    output = running.make("-j2", "down", "up")
    assert output.index("Stopped") < output.index("Airflow  http")
    assert "api-server is up" in output


def test_data_is_kept_when_the_stack_stops(stopped):
    stopped.make("up")
    created = stopped.mlflow("experiments/create", name=f"kept-{os.urandom(4).hex()}")["experiment_id"]
    stopped.make("down", "up")
    experiments = stopped.mlflow("experiments/search", max_results=1000)["experiments"]
    assert created in {experiment["experiment_id"] for experiment in experiments}
    airflow = AirflowApi(stopped.airflow_port)
    airflow.log_in()
    assert {f"{dag_id}.py" for dag_id in DAG_IDS} <= set(airflow.parsed())


class TestPorts:
    def test_a_taken_port_is_replaced_by_the_next_free_one_which_is_shown_and_saved(self, stopped):
        taken = stopped.mlflow_port
        with socket.create_server(("127.0.0.1", taken)):
            output = stopped.make("up")
            port = json.loads((stopped.folder / ".local" / "ports.json").read_text())["mlflow"]
            assert port > taken
            assert f"Port {taken} is taken; using MLFLOW_PORT={port} from now on" in output
            address = f"http://localhost:{port}"
            assert f"MLflow   {address}" in output
            assert address in stopped.make("status")
            assert self.address_that_airflow_leads_to(stopped) == address
        try:
            assert f"MLflow   {address}" in stopped.make("down", "up")
        finally:
            stopped.make("down")
            stopped.make("up", **stopped.ports)  # which are saved again

    @staticmethod
    def address_that_airflow_leads_to(clone) -> str:
        airflow = f"http://127.0.0.1:{clone.airflow_port}"
        token = requests.get(f"{airflow}/auth/token", timeout=60).json()["access_token"]
        page = requests.get(
            f"{airflow}/mlflow/open", cookies={"_token": token}, timeout=60, allow_redirects=False
        )
        return page.headers["Location"].removesuffix("/#/")

    def test_ports_cannot_be_changed_while_the_stack_is_up(self, running):
        output = running.make("up", expect=2, MLFLOW_PORT="19999")
        assert f"MLFLOW_PORT={running.mlflow_port}" in output
        assert "make down" in output


class TestEnvFile:
    def test_its_ports_are_checked(self, stopped):
        (stopped.folder / ".env").write_text("MLFLOW_PORT=none\n")
        assert "MLFLOW_PORT=none is not a valid port" in stopped.make("up", expect=2)

    def test_its_logins_reach_only_airflow(self, running):
        (running.folder / ".env").write_text(
            """AIRFLOW_CONN_REMOTE='{"conn_type": "mlflow", "password": "s3cret"}'\n"""
        )
        output = running.make("up")
        assert "has changed" in output  # because no process would notice it
        assert "Other users of this machine can read .env. Run `chmod 600 .env`." in output
        (running.folder / ".env").chmod(0o600)
        assert "can read .env" not in running.make("up")
        holders = {
            process.environ()["LOCAL_STACK_COMPONENT"]
            for process in running.processes()
            if "s3cret" in process.environ().get("AIRFLOW_CONN_REMOTE", "")
        }
        assert holders == {"api-server", "scheduler", "dag-processor", "triggerer"}


class TestInterrupted:
    def test_an_interrupted_start_leaves_nothing(self, stopped):
        process = stopped.start("up")
        wait_until("processes run", lambda: len(stopped.processes()) > 3)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        assert process.returncode
        assert "Traceback" not in output
        wait_until("they have ended", lambda: not stopped.processes())
        stopped.assert_nothing_is_left()

    def test_a_demo_interrupted_while_dags_run_reports_that_the_stack_is_up(self, running, airflow):
        def runs() -> int:
            return airflow.call("GET", "/api/v2/dags/~/dagRuns")["total_entries"]

        baseline = runs()
        process = running.start("demo")
        wait_until("DAGs run", lambda: runs() == baseline + len(DAG_IDS))
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        assert process.returncode
        assert f"Airflow  http://localhost:{running.airflow_port}" in output
        assert "The stack is still up and the DAG runs continue; `make down` stops everything." in output
        assert "Traceback" not in output
        wait_until(
            "they have ended",
            lambda: (
                not airflow.call("GET", "/api/v2/dags/~/dagRuns", params={"state": ["running", "queued"]})[
                    "dag_runs"
                ]
            ),
        )


class TestChangedProject:
    """What `git pull` brings while the stack is up."""

    def test_changed_code_causes_a_restart(self, running):
        baseline = {process.pid for process in running.processes()}
        with (running.folder / "provider/src/mlflow_provider/links/mlflow.py").open("a") as file:
            file.write("# changed\n")
        output = running.make("up")
        assert "The project has changed since the stack was started; restarting it" in output
        assert baseline.isdisjoint(process.pid for process in running.processes())

    def test_everything_is_stopped_before_packages_are_installed(self, running):
        baseline = {process.pid for process in running.processes()}
        with (running.folder / "requirements.txt").open("a") as file:
            file.write("# changed\n")
        output = running.make("up")
        stopped, installing = output.index("Stopped"), output.index("Installing")
        assert (
            output.index("The project has changed") < stopped < installing < output.index("api-server is up")
        )
        assert baseline.isdisjoint(process.pid for process in running.processes())

    def test_a_component_unknown_to_the_running_supervisor_is_shown_as_missing(self, running):
        source = running.folder / "local_stack/supervision.py"
        code = source.read_text()
        assert '"triggerer"' in code
        source.write_text(code.replace('"triggerer"', '"another"'))
        output = running.make("status", expect=2)
        assert "another        missing" in output
        assert "Traceback" not in output


class TestBroken:
    def test_a_component_that_does_not_start_is_reported_with_its_log(self, stopped):
        database = stopped.folder / ".local/data/mlflow/mlflow.db"
        backup = database.rename(database.with_suffix(".backup"))
        database.write_text("not a database")
        output = stopped.make("up", expect=2)
        backup.rename(database)
        assert "mlflow does not start" in output
        assert "file is not a database" in output
        stopped.assert_nothing_is_left()

    def test_a_broken_dag_file_is_reported_and_stops_nothing(self, running):
        (running.folder / "dags" / "broken.py").write_text(
            "from airflow.sdk import dag\nimport no_such_module\n"
        )
        output = running.make("up")
        assert "dags/broken.py: Airflow cannot import this file" in output
        assert "No module named 'no_such_module'" in output

    @pytest.mark.fault(
        "The stack's supervisor is killed",
        sees="`make status`: the supervisor was killed",
        green="by `make down up`",
    )
    def test_down_stops_what_a_killed_supervisor_left(self, running):
        (supervisor,) = (each for each in running.processes() if each.cmdline()[-1:] == ["supervisord"])
        supervisor.kill()
        assert "The supervisor was killed" in running.make("status", expect=2)
        assert "Stopped" in running.make("down")
        running.assert_nothing_is_left()


OLDER_MLFLOW = """
from mlflow import MlflowClient

client = MlflowClient("sqlite:///{database}")
run = client.create_run("0")
client.log_metric(run.info.run_id, "rmse", 0.5)
print(run.info.run_id)
"""


def test_a_database_of_an_older_mlflow_is_upgraded(stopped, tmp_path):
    home = stopped.folder / ".local" / "data" / "mlflow"
    backup = home.rename(home.with_name("mlflow-backup"))
    home.mkdir()
    uv = stopped.folder / ".local" / "uv" / "bin" / "uv"
    older = [uv, "run", "--no-project", "--with", "mlflow-skinny==3.4.*", "--with", "sqlalchemy<2.1"]
    older += ["--with", "alembic", "--with", "numpy", "--with", "pandas"]
    script = OLDER_MLFLOW.format(database=home / "mlflow.db")
    run_id = subprocess.check_output([*older, "python", "-c", script], text=True, cwd=tmp_path).split()[-1]
    try:
        stopped.make("up")
        assert stopped.run_ids() == {run_id}
        # The backup shows that the stack upgraded it; the server upgrades some versions by itself.
        assert len(list(home.glob("before-*.db"))) == 1
    finally:
        stopped.make("down")
        home.rename(tmp_path / "mlflow")
        backup.rename(home)
