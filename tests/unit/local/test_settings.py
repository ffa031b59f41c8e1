"""The ports, and what is wrong with a bad choice."""

import pytest

from local.settings import WITH_MINIO, LocalError, Ports


@pytest.fixture(autouse=True)
def _no_ports_in_the_environment(monkeypatch):
    for variable in WITH_MINIO.variables():
        monkeypatch.delenv(variable, raising=False)


def test_the_usual_ports_are_the_default():
    assert Ports.from_environment() == Ports(airflow=8080, mlflow=5000)


def test_the_environment_overrides_them(monkeypatch):
    monkeypatch.setenv("MLFLOW_PORT", "5001")
    assert Ports.from_environment() == Ports(airflow=8080, mlflow=5001)


def test_a_running_stack_keeps_its_ports(monkeypatch):
    monkeypatch.setenv("MLFLOW_PORT", "5001")
    assert Ports.from_environment(Ports(airflow=8090, mlflow=5090)) == Ports(airflow=8090, mlflow=5001)


def test_minio_has_two_ports_where_it_runs_and_none_elsewhere(monkeypatch):
    monkeypatch.setenv("MINIO_PORT", "9005")
    assert Ports.from_environment(WITH_MINIO) == Ports(minio=9005, minio_console=9001)
    assert Ports.from_environment() == Ports(minio=None, minio_console=None)


@pytest.mark.parametrize("value", ["x", "0", "65536", "-1", "80.5"])
def test_what_is_no_port_number_is_named(monkeypatch, value):
    monkeypatch.setenv("AIRFLOW_PORT", value)
    with pytest.raises(LocalError, match=f"AIRFLOW_PORT={value} is no port number"):
        Ports.from_environment()


def test_one_port_for_two_is_refused(monkeypatch):
    monkeypatch.setenv("AIRFLOW_PORT", "9001")
    with pytest.raises(LocalError, match="AIRFLOW_PORT and MINIO_CONSOLE_PORT are both 9001"):
        Ports.from_environment(WITH_MINIO)
    assert Ports.from_environment() == Ports(airflow=9001)


def test_an_error_shows_the_end_of_a_log():
    log = "\n".join(f"line {number}" for number in range(100))
    lines = str(LocalError("mlflow does not come up:", log)).splitlines()
    assert lines[0] == "mlflow does not come up:"
    assert lines[1].strip() == "line 75"
    assert lines[-1].strip() == "line 99"
