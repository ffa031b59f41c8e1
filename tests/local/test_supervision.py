"""What the supervisor is told."""

import configparser
from dataclasses import asdict

import pytest

from local import supervision
from local.settings import Ports

PORTS = Ports(airflow=8090, mlflow=5090)


@pytest.fixture
def config():
    parser = configparser.RawConfigParser()
    parser.read_string(supervision.config(PORTS))
    return parser


def test_every_component_is_restarted_and_stopped_with_its_children(config):
    programs = [config[section] for section in config.sections() if section.startswith("program:")]
    assert len(programs) == len(supervision.components(PORTS)) == 5
    for program in programs:
        assert program["autorestart"] == program["stopasgroup"] == program["killasgroup"] == "true"


def test_it_carries_the_ports(config):
    class Running:
        def getIdentification(self):  # noqa: N802
            return config["supervisord"]["identifier"]

    assert supervision.ports_of(Running()) == PORTS


def test_mlflow_is_lean_and_checks_the_host(config):
    command = config["program:mlflow"]["command"]
    assert "--host 127.0.0.1 --port 5090 --workers 1" in command
    assert "--allowed-hosts localhost:5090,127.0.0.1:5090" in command
    assert supervision.environment()["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_nobody_serves_logs(config):
    for name in ("scheduler", "triggerer"):
        assert "--skip-serve-logs" in config[f"program:{name}"]["command"]


def test_a_deep_clone_is_no_problem():
    """The path of a unix socket may have 103 characters on macOS, and supervisord adds its pid."""
    assert len(str(supervision.SOCKET)) < 80
    assert not supervision.SOCKET.is_absolute()


def test_each_port_belongs_to_a_component():
    listening = {component.port for component in supervision.components(PORTS) if component.port}
    assert listening == set(asdict(PORTS).values())
