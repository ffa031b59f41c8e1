"""The ports: from the settings, from the last start, or the next free ones."""

import socket

import pytest

from local_stack import ports
from local_stack.ports import WITH_MINIO, Ports
from local_stack.settings import LocalError


@pytest.fixture(autouse=True)
def _without_settings(monkeypatch, tmp_path):
    """Without variables, and without an earlier start."""
    for variable in WITH_MINIO.variables():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(ports, "FILE", tmp_path / "ports.json")


@pytest.fixture
def take(monkeypatch):
    """A function that makes ports look taken; a test cannot know which ones are on this machine."""

    def take_ports(*numbers):
        monkeypatch.setattr(ports, "is_taken", lambda port: port in numbers)

    take_ports()
    return take_ports


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")],
)
def test_a_port_is_taken_if_a_browser_would_reach_another_program(family, address):
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        assert ports.is_taken(port)
    assert not ports.is_taken(port)


@pytest.mark.parametrize(
    "defaults", [Ports(8080, 5000), Ports(8080, 5000, 9000, 9001), Ports(8080, mlflow=None)]
)
def test_the_defaults_are_used_if_they_are_free(take, defaults):
    assert ports.choose(defaults) == (defaults, [])


def test_variables_set_ports(take, monkeypatch):
    monkeypatch.setenv("AIRFLOW_PORT", "8086")
    assert ports.choose(Ports()) == (Ports(8086, 5000), [])


def test_a_taken_port_is_replaced_by_the_next_free_one_with_a_message(take):
    take(5000, 5001)
    message = "Port 5000 is taken; using MLFLOW_PORT=5002 from now on"
    assert ports.choose(Ports()) == (Ports(8080, 5002), [message])


def test_the_next_free_port_is_not_that_of_another_service(take, monkeypatch):
    monkeypatch.setenv("MLFLOW_PORT", "8081")
    take(8080, 9000)
    assert ports.choose(ports.WITH_MINIO)[0] == Ports(8082, 8081, 9001, 9002)


def test_the_last_ports_are_used_again_even_if_the_defaults_are_free(take):
    Ports(8090, 5090).save()
    assert ports.choose(ports.WITH_MINIO) == (Ports(8090, 5090, 9000, 9001), [])


@pytest.mark.parametrize("value", ["x", "0", "65536", "-1", "80.5"])
def test_an_invalid_port_is_rejected(monkeypatch, value):
    monkeypatch.setenv("AIRFLOW_PORT", value)
    with pytest.raises(LocalError, match=f"AIRFLOW_PORT={value} is not a valid port"):
        ports.read_settings(check_free=False)


def test_one_port_for_two_services_is_rejected(monkeypatch):
    monkeypatch.setenv("AIRFLOW_PORT", "9001")
    monkeypatch.setenv("MINIO_CONSOLE_PORT", "9001")
    with pytest.raises(LocalError, match="AIRFLOW_PORT and MINIO_CONSOLE_PORT are both 9001"):
        ports.read_settings(check_free=False)


def test_a_taken_port_in_the_settings_is_rejected_unless_the_stack_itself_may_use_it(take, monkeypatch):
    monkeypatch.setenv("MLFLOW_PORT", "5001")
    take(5001)
    with pytest.raises(LocalError, match=r"MLFLOW_PORT=5001: that port is taken\. Choose another, or unset"):
        ports.choose(Ports())
    assert ports.read_settings(check_free=False) == {"mlflow": 5001}
