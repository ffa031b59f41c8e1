"""The ports: what is named, what is remembered, what is free, and what is wrong with a bad choice."""

import socket

import pytest

from local_stack import ports, settings
from local_stack.ports import WITH_MINIO, Ports
from local_stack.settings import LocalError


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Nothing is named in the environment or in ``.env``, and there was no stack before."""
    for variable in WITH_MINIO.variables():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    monkeypatch.setattr(ports, "REMEMBERED", tmp_path / "ports.json")
    return tmp_path


@pytest.fixture
def taken(monkeypatch):
    """A function that makes ports look taken; a test cannot know which are on this machine."""

    def take(*numbers):
        monkeypatch.setattr(ports, "is_taken", lambda port: port in numbers)

    take()
    return take


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")],
)
def test_a_port_is_taken_if_somebody_listens_where_a_browser_would_ask(family, address):
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        assert ports.is_taken(port)
    assert not ports.is_taken(port)


def test_the_usual_ports_are_the_default(taken):
    assert ports.choose(with_minio=False) == (Ports(8080, 5000), [])
    assert ports.choose(with_minio=True) == (Ports(8080, 5000, 9000, 9001), [])


def test_a_port_that_is_named_is_used(taken, monkeypatch):
    monkeypatch.setenv("MLFLOW_PORT", "5001")
    assert ports.choose(with_minio=False) == (Ports(8080, 5001), [])


def test_env_file_names_ports_too_and_the_shell_wins(taken, monkeypatch, clean):
    (clean / ".env").write_text("MLFLOW_PORT=5005\nAIRFLOW_PORT='8085'  # mine\n")
    monkeypatch.setenv("AIRFLOW_PORT", "8086")
    assert ports.choose(with_minio=False) == (Ports(8086, 5005), [])


def test_instead_of_one_that_is_taken_the_next_free_one_is_used_and_told(taken):
    taken(5000, 5001)
    chosen, said = ports.choose(with_minio=False)
    assert chosen == Ports(8080, 5002)
    assert said == ["Port 5000 is taken; MLFLOW_PORT is 5002 from now on"]


def test_the_next_free_one_is_not_one_that_another_service_has(taken, monkeypatch):
    monkeypatch.setenv("MLFLOW_PORT", "8081")
    taken(8080, 9000)
    chosen, _ = ports.choose(with_minio=True)
    assert chosen == Ports(8082, 8081, 9001, 9002)


def test_the_last_ports_are_used_again_although_the_usual_ones_are_free(taken):
    Ports(8090, 5090).remember()
    assert ports.choose(with_minio=True) == (Ports(8090, 5090, 9000, 9001), [])


@pytest.mark.parametrize("value", ["x", "0", "65536", "-1", "80.5"])
def test_what_is_no_port_number_is_named(monkeypatch, value):
    monkeypatch.setenv("AIRFLOW_PORT", value)
    with pytest.raises(LocalError, match=f"AIRFLOW_PORT={value} is no port number"):
        ports.named(free=False)


def test_one_port_for_two_is_refused(monkeypatch):
    monkeypatch.setenv("AIRFLOW_PORT", "9001")
    monkeypatch.setenv("MINIO_CONSOLE_PORT", "9001")
    with pytest.raises(LocalError, match="AIRFLOW_PORT and MINIO_CONSOLE_PORT are both 9001"):
        ports.named(free=False)


def test_a_port_that_is_named_and_taken_is_refused_with_the_way_out(taken, monkeypatch):
    monkeypatch.setenv("MLFLOW_PORT", "5001")
    taken(5001)
    with pytest.raises(LocalError, match="MLFLOW_PORT=5001: that port is taken; name another one, or leave"):
        ports.choose(with_minio=False)
    assert ports.named(free=False) == {"mlflow": 5001}
