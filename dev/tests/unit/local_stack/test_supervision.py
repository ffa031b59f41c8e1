"""What the supervisor runs, and how real processes are found and ended."""

import configparser
import os
import subprocess
import sys

import pytest

from local_stack import object_store, settings, supervision
from local_stack.ports import Ports
from local_stack.settings import ROOT

PORTS = Ports(airflow=8090, mlflow=5090)
WITH_MINIO = Ports(airflow=8090, mlflow=5090, minio=9090, minio_console=9091)
AIRFLOW = ["api-server", "scheduler", "dag-processor", "triggerer"]
SLEEP = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(100)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(100)",
]


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A function that writes the supervisor's configuration, and returns its text."""
    monkeypatch.setattr(supervision, "CONFIG", tmp_path / "supervisor.conf")

    def write(ports):
        supervision.write_config(ports)
        return supervision.CONFIG.read_text()

    return write


def components(ports):
    return {component.name: component for component in supervision.components(ports)}


def command(component):
    return " ".join(map(str, component.command))


def test_every_component_is_restarted_and_stopped_with_its_children(config):
    parser = configparser.ConfigParser()
    parser.read_string(config(PORTS))
    programs = [parser[section] for section in parser.sections() if section.startswith("program:")]
    assert len(programs) == 5
    for program in programs:
        assert program["autorestart"] == program["stopasgroup"] == program["killasgroup"] == "true"


def test_the_configuration_contains_no_path_that_depends_on_the_projects_folder(config):
    """Its name may contain a per cent sign, and the path of a socket is limited to 103 bytes on macOS."""
    assert str(ROOT) not in config(WITH_MINIO)
    assert not settings.SOCKET.is_absolute()


def test_mlflow_is_lean_and_checks_the_host():
    mlflow = command(components(PORTS)["mlflow"])
    assert "--host=127.0.0.1 --port=5090 --workers=1" in mlflow
    assert "--allowed-hosts=localhost:5090,127.0.0.1:5090" in mlflow
    assert supervision.environment()["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_without_minio_artifacts_are_on_disk():
    without = components(PORTS)
    assert "--artifacts-destination=.local/data/mlflow/artifacts" in command(without["mlflow"])
    assert "minio" not in without


def test_minio_starts_first_and_mlflow_stores_artifacts_there():
    with_minio = components(WITH_MINIO)
    assert next(iter(with_minio)) == "minio"
    assert "--address=127.0.0.1:9090 --console-address=127.0.0.1:9091" in command(with_minio["minio"])
    assert "--artifacts-destination=s3://mlflow" in command(with_minio["mlflow"])


def test_only_minio_and_mlflow_get_the_keys(monkeypatch, config):
    key = "50%,#;=()$ \"'"
    connection = {"connection_id": "minio_default", "login": "me", "password": key}
    monkeypatch.setattr(object_store.airflow_settings, "read", lambda ports: {"connections": [connection]})
    each = components(WITH_MINIO)
    assert [name for name in each if key in each[name].environment.values()] == ["minio", "mlflow"]
    assert key not in config(WITH_MINIO) + command(each["minio"]) + repr(each)


def test_only_airflow_gets_the_variables_of_the_env_file(monkeypatch):
    monkeypatch.setattr(settings, "read_env_file", lambda: {"AIRFLOW_CONN_A": "mlflow://b"})
    each = components(PORTS)
    assert [name for name in each if "AIRFLOW_CONN_A" in each[name].environment] == AIRFLOW


@pytest.fixture
def spawn(monkeypatch):
    """A function that starts a process as a component of a stack, and returns when it runs."""
    # Not this clone: its stack may be up.
    monkeypatch.setattr(settings, "ROOT", "/nowhere/test")
    processes = []

    def spawn_process(command, component):
        variables = {supervision.STACK: "/nowhere/test", supervision.COMPONENT: component}
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE)
        process.stdout.readline()
        processes.append(process)
        return process.pid

    yield spawn_process
    for process in processes:
        process.kill()
        process.communicate()


def test_processes_are_found_by_component_and_no_others(spawn):
    mlflow, scheduler = spawn(SLEEP, "mlflow"), spawn(SLEEP, "scheduler")
    assert {process.pid for process in supervision.find()} == {mlflow, scheduler}
    assert [process.pid for process in supervision.find("mlflow")] == [mlflow]


def test_a_process_that_ignores_sigterm_is_killed(spawn):
    spawn(SLEEP, "mlflow")
    spawn(STUBBORN, "mlflow")
    supervision.end(supervision.find(), timeout=0.5)
    assert supervision.find() == []
