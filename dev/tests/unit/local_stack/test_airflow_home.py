"""Airflow's configuration file and its folder of plugins."""

import configparser
import stat

import pytest

from local_stack import airflow_home
from local_stack.ports import Ports

GENERATED = [
    ("core", "fernet_key"),
    ("api", "secret_key"),
    ("api_auth", "jwt_secret"),
    ("mlflow", "instance"),
]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes the configuration and reads it as Airflow does."""
    monkeypatch.setattr(airflow_home, "AIRFLOW_HOME", tmp_path)

    def write_config(**ports):
        airflow_home.write_config(Ports(**ports))
        config = configparser.ConfigParser()
        config.read(tmp_path / "airflow.cfg")
        return config

    return write_config


def test_secrets_and_the_instance_name_differ_between_two_clones(write, tmp_path):
    first = write()
    (tmp_path / "airflow.cfg").unlink()
    second = write()
    for option in GENERATED:
        assert first.get(*option)
        assert first.get(*option) != second.get(*option)


def test_secrets_and_the_instance_name_are_kept_on_a_restart_on_other_ports(write):
    first = write()
    second = write(airflow=8090)
    assert [first.get(*option) for option in GENERATED] == [second.get(*option) for option in GENERATED]
    assert second["api"]["port"] == "8090"


def test_only_the_owner_can_read_the_secrets(write, tmp_path):
    write()
    assert stat.S_IMODE((tmp_path / "airflow.cfg").stat().st_mode) == 0o600


def test_a_path_may_contain_a_per_cent_sign(write, monkeypatch, tmp_path):
    monkeypatch.setattr(airflow_home, "DAGS", tmp_path / "100% für alle" / "dags")
    assert write()["core"]["dags_folder"] == str(tmp_path / "100% für alle" / "dags")


def test_plugins_of_the_project_and_of_the_stack_are_linked_again_at_each_start(monkeypatch, tmp_path):
    monkeypatch.setattr(airflow_home, "PLUGINS", tmp_path / "plugins")
    for root in ("old", "new"):
        monkeypatch.setattr(airflow_home, "ROOT", tmp_path / root)
        airflow_home.link_plugins()
    links = {link.name: link.readlink() for link in (tmp_path / "plugins").iterdir()}
    assert links == {"project": tmp_path / "new/plugins", "stack": tmp_path / "new/local_stack/plugins"}
