"""What a person may set in ``.env``, and what an error shows."""

import pytest

from local_stack import settings
from local_stack.settings import LocalError, read_env_file, setting


@pytest.fixture
def env_file(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    return tmp_path / ".env"


def test_without_the_file_nothing_is_set(env_file):
    assert read_env_file() == {}


def test_the_file_is_read_as_docker_and_astro_do(env_file):
    env_file.write_text(
        """
# AIRFLOW_PORT=1
MLFLOW_PORT=5001
export A = spaced
QUOTED="a # b"
SINGLE='{"conn_type": "mlflow", "password": "p#s\\"w"}'
BARE={"conn_type": "mlflow"}
COMMENT=value # comment
HASH=va#lue
EMPTY=
URI=mlflow://token:x%20y@https%3A%2F%2Fexample.com
""",
        "utf-8",
    )
    assert read_env_file() == {
        "MLFLOW_PORT": "5001",
        "A": "spaced",
        "QUOTED": "a # b",
        "SINGLE": '{"conn_type": "mlflow", "password": "p#s\\"w"}',
        "BARE": '{"conn_type": "mlflow"}',
        "COMMENT": "value",
        "HASH": "va#lue",
        "EMPTY": "",
        "URI": "mlflow://token:x%20y@https%3A%2F%2Fexample.com",
    }


def test_the_shell_wins_over_the_file_also_with_an_empty_value(env_file, monkeypatch):
    env_file.write_text("MINIO=/usr/bin/minio\n")
    monkeypatch.delenv("MINIO", raising=False)
    assert setting("MINIO") == "/usr/bin/minio"
    monkeypatch.setenv("MINIO", "")
    assert setting("MINIO") == ""


def test_an_error_shows_the_end_of_a_log():
    log = "\n".join(f"line {number}" for number in range(100))
    lines = str(LocalError("mlflow does not come up:", log)).splitlines()
    assert lines[0] == "mlflow does not come up:"
    assert lines[1].strip() == "line 75"
    assert lines[-1].strip() == "line 99"
