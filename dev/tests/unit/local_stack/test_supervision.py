"""What the supervisor is told, what it starts, and how processes are found and ended, with real ones."""

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
SLEEP = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(100)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(100)",
]


def components(ports):
    return {component.name: component for component in supervision.components(ports)}


def command(component):
    return " ".join(map(str, component.command))


def test_every_component_is_restarted_and_stopped_with_its_children():
    config = configparser.ConfigParser()
    config.read_string(supervision.config(PORTS))
    programs = [config[section] for section in config.sections() if section.startswith("program:")]
    assert len(programs) == 5
    for program in programs:
        assert program["autorestart"] == program["stopasgroup"] == program["killasgroup"] == "true"


def test_the_configuration_holds_no_path_that_depends_on_where_the_project_lies():
    """Its folder may have a per cent sign in its name, or lie deep."""
    assert str(ROOT) not in supervision.config(WITH_MINIO)


def test_mlflow_is_lean_and_checks_the_host():
    mlflow = command(components(PORTS)["mlflow"])
    assert "--host=127.0.0.1 --port=5090 --workers=1" in mlflow
    assert "--allowed-hosts=localhost:5090,127.0.0.1:5090" in mlflow
    assert supervision.environment()["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_without_minio_artifacts_go_to_the_disk():
    found = components(PORTS)
    assert "--artifacts-destination=.local/data/mlflow/artifacts" in command(found["mlflow"])
    assert "minio" not in found


def test_minio_starts_first_and_is_where_mlflow_puts_artifacts():
    found = components(WITH_MINIO)
    assert next(iter(found)) == "minio"
    assert "--address=127.0.0.1:9090 --console-address=127.0.0.1:9091" in command(found["minio"])
    assert "--artifacts-destination=s3://mlflow" in command(found["mlflow"])


def test_only_minio_and_mlflow_are_given_keys(monkeypatch):
    key = "50%,#;=()$ \"'"
    connection = {"connection_id": "minio_default", "login": "me", "password": key}
    monkeypatch.setattr(object_store.airflow_settings, "read", lambda ports: {"connections": [connection]})
    found = components(WITH_MINIO)
    assert {name for name, each in found.items() if key in each.environment.values()} == {"minio", "mlflow"}
    assert key not in supervision.config(WITH_MINIO) + command(found["minio"]) + repr(found)


def test_only_airflow_is_given_the_variables_of_the_env_file(monkeypatch):
    monkeypatch.setattr(settings, "read_env_file", lambda: {"AIRFLOW_CONN_A": "mlflow://b"})
    given = {name for name, each in components(PORTS).items() if "AIRFLOW_CONN_A" in each.environment}
    assert given == {"api-server", "scheduler", "dag-processor", "triggerer"}


def test_nobody_serves_logs():
    for name in ("scheduler", "triggerer"):
        assert "--skip-serve-logs" in components(PORTS)[name].command


def test_a_deep_clone_is_no_problem():
    """The path of a unix socket may have 103 characters on macOS, and supervisord adds its pid."""
    assert len(str(settings.SOCKET)) < 80
    assert not settings.SOCKET.is_absolute()


def test_each_port_belongs_to_a_component():
    listening = {component.port for component in supervision.components(PORTS) if component.port}
    assert listening == set(PORTS.variables().values())


@pytest.fixture
def spawn(monkeypatch):
    """A function that starts a process as a component of the stack, and returns when it runs."""
    # Not this clone: its stack may be up.
    monkeypatch.setattr(settings, "ROOT", "/nowhere/test")
    spawned = []

    def spawn_process(command, component):
        marks = {supervision.STACK: "/nowhere/test", supervision.COMPONENT: component}
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
    assert pids(supervision.find()) == {mlflow.pid, scheduler.pid}
    assert pids(supervision.find("mlflow")) == {mlflow.pid}


def test_other_processes_are_not_found(spawn):
    spawn(SLEEP, "mlflow")
    assert os.getpid() not in pids(supervision.find())


def test_ends_also_those_that_do_not_want_to(spawn):
    spawn(SLEEP, "mlflow")
    spawn(STUBBORN, "mlflow")
    supervision.end(supervision.find(), patience=0.5)
    assert supervision.find() == []
