"""What the supervisor is told."""

import configparser

import pytest
from supervisor.datatypes import dict_of_key_value_pairs
from supervisor.options import expand

from local import minio, supervision
from local.settings import Ports

PORTS = Ports(airflow=8090, mlflow=5090)
WITH_MINIO = Ports(airflow=8090, mlflow=5090, minio=9090, minio_console=9091)


def parse(ports):
    parser = configparser.RawConfigParser()
    parser.read_string(supervision.config(ports))
    return parser


@pytest.fixture
def config():
    return parse(PORTS)


def test_every_component_is_restarted_and_stopped_with_its_children(config):
    programs = [config[section] for section in config.sections() if section.startswith("program:")]
    assert len(programs) == len(supervision.components(PORTS)) == 5
    for program in programs:
        assert program["autorestart"] == program["stopasgroup"] == program["killasgroup"] == "true"


@pytest.mark.parametrize("ports", [PORTS, WITH_MINIO], ids=["without MinIO", "with MinIO"])
def test_it_carries_the_ports(ports):
    class Running:
        def getIdentification(self):  # noqa: N802
            return parse(ports)["supervisord"]["identifier"]

    assert supervision.ports_of(Running()) == ports


def test_mlflow_is_lean_and_checks_the_host(config):
    command = config["program:mlflow"]["command"]
    assert "--host 127.0.0.1 --port 5090 --workers 1" in command
    assert "--allowed-hosts localhost:5090,127.0.0.1:5090" in command
    assert supervision.environment()["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_without_minio_artifacts_go_to_the_disk(config):
    assert "--artifacts-destination .local/data/mlflow/artifacts" in config["program:mlflow"]["command"]
    assert "program:minio" not in config


def test_minio_starts_first_and_is_where_mlflow_puts_artifacts():
    config = parse(WITH_MINIO)
    assert next(section for section in config if section.startswith("program:")) == "program:minio"
    command = config["program:minio"]["command"]
    assert "--address 127.0.0.1:9090 --console-address 127.0.0.1:9091 .local/data/minio" in command
    assert "--artifacts-destination s3://mlflow" in config["program:mlflow"]["command"]


def test_only_minio_and_mlflow_are_given_keys(monkeypatch):
    key = "50%,#;=()$"
    connection = {"connection_id": "minio_default", "login": "me", "password": key}
    monkeypatch.setattr(minio.connections, "read", lambda ports: {"connections": [connection]})
    config = parse(WITH_MINIO)
    given = {
        section.removeprefix("program:"): dict_of_key_value_pairs(
            expand(config[section]["environment"], {}, "environment")
        )
        for section in config
        if config.get(section, "environment", fallback="")
    }
    assert given == {
        "minio": minio.server_environment(WITH_MINIO),
        "mlflow": minio.client_environment(WITH_MINIO),
    }
    assert key in given["minio"].values()
    assert "me" not in config["program:minio"]["command"].split()


def test_nobody_serves_logs(config):
    for name in ("scheduler", "triggerer"):
        assert "--skip-serve-logs" in config[f"program:{name}"]["command"]


def test_a_deep_clone_is_no_problem():
    """The path of a unix socket may have 103 characters on macOS, and supervisord adds its pid."""
    assert len(str(supervision.SOCKET)) < 80
    assert not supervision.SOCKET.is_absolute()


def test_each_port_belongs_to_a_component():
    listening = {component.port for component in supervision.components(PORTS) if component.port}
    assert listening == set(PORTS.variables().values())
