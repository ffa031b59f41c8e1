"""Airflow's configuration file."""

import configparser
import stat

import pytest

from local_stack import airflow_home
from local_stack.ports import Ports


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A function that writes the configuration, and reads it."""
    monkeypatch.setattr(airflow_home, "AIRFLOW_HOME", tmp_path)

    def write(**ports):
        airflow_home.write_config(Ports(**ports))
        parser = configparser.ConfigParser()
        parser.read(tmp_path / "airflow.cfg")
        return parser

    return write


def secrets(config):
    return [config["core"]["fernet_key"], config["api"]["secret_key"], config["api_auth"]["jwt_secret"]]


def test_secrets_are_random(config, tmp_path):
    first = secrets(config())
    (tmp_path / "airflow.cfg").unlink()
    assert set(first).isdisjoint(secrets(config()))


def test_secrets_outlive_a_restart_on_other_ports(config):
    first = config()
    second = config(airflow=8090)
    assert secrets(first) == secrets(second)
    assert second["api"]["port"] == "8090"


def test_nobody_else_can_read_them(config, tmp_path):
    config()
    assert stat.S_IMODE((tmp_path / "airflow.cfg").stat().st_mode) == 0o600


def test_airflow_listens_on_loopback(config):
    assert config()["api"]["host"] == "127.0.0.1"


def test_a_path_with_a_per_cent_sign_is_read_as_it_is(config, monkeypatch, tmp_path):
    monkeypatch.setattr(airflow_home, "DAGS", tmp_path / "100% für alle" / "dags")
    assert config()["core"]["dags_folder"] == str(tmp_path / "100% für alle" / "dags")
