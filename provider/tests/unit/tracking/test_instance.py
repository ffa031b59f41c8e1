"""The instance name is the same in every component, and differs between laptops."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlflow_provider.tracking import instance

URL, KEY = "http://localhost:8080", "YWlyZmxvdy1kZW1vLXNlY3JldC1mb3ItZmVybmV0ISE="


def name(monkeypatch, base_url: str = URL, fernet_key: str = KEY) -> str:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", fernet_key)
    return instance.name()


def test_a_setting_names_it(monkeypatch):
    monkeypatch.setenv("AIRFLOW__MLFLOW__INSTANCE", "production")

    assert name(monkeypatch) == "production"


class TestDefault:
    @pytest.fixture(autouse=True)
    def not_configured(self, monkeypatch):
        monkeypatch.delenv("AIRFLOW__MLFLOW__INSTANCE")

    def test_it_differs_by_address_and_by_key(self, monkeypatch):
        names = [
            name(monkeypatch),
            name(monkeypatch, base_url="https://airflow.example.com"),
            name(monkeypatch, fernet_key=KEY[::-1]),
        ]

        assert len(set(names)) == 3
        assert all(len(each) == 8 for each in names)

    def test_it_does_not_contain_the_key(self, monkeypatch):
        assert name(monkeypatch) not in KEY

    @pytest.mark.parametrize("module", ["airflow.sdk.configuration", "airflow.configuration"])
    def test_it_is_the_same_in_a_task_and_in_a_server_process(self, monkeypatch, module):
        """A task reads the configuration through the SDK, a server process through Airflow's core."""
        code = (
            f"import importlib; conf = importlib.import_module({module!r}).conf\n"
            "from mlflow_provider.tracking import instance; instance.conf = conf; print(instance.name())"
        )
        expected = name(monkeypatch)
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if "No module named 'airflow.sdk.configuration'" in process.stderr:
            pytest.skip("Airflow 3.1 has one configuration for both.")

        assert process.stdout.split()[-1:] == [expected]
