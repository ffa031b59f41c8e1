"""Settings in ``.env``, and what an error shows."""

import os

import pytest

from local_stack import settings
from local_stack.settings import LocalError, apply_env_file, read_env_file


@pytest.fixture
def env_file(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    return tmp_path / ".env"


def test_the_file_is_optional_and_read_as_docker_and_astro_do(env_file, monkeypatch):
    monkeypatch.setenv("SHELL_VARIABLE", "shell")
    assert read_env_file() == {}
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
DOLLAR=pa$${s}w
LITERAL='pa${A}$$'
SHELL_VARIABLE=${SHELL_VARIABLE}:more
EXPANDED="${A} $A ${SHELL_VARIABLE} ${MISSING}${MISSING:-default}"
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
        "DOLLAR": "pa${s}w",
        "LITERAL": "pa${A}$$",
        "SHELL_VARIABLE": "shell:more",
        "EXPANDED": "spaced spaced shell:more default",
    }


def test_the_shell_overrides_the_file_even_with_an_empty_value(env_file, monkeypatch):
    env_file.write_text("MINIO=/usr/bin/minio\nMLFLOW_PORT=5001\nAIRFLOW_CONN_A=mlflow://b\n")
    monkeypatch.setattr(os, "environ", {"MINIO": ""})
    apply_env_file()
    assert os.environ == {"MINIO": "", "MLFLOW_PORT": "5001"}


def test_an_error_shows_the_end_of_a_log():
    log = "\n".join(f"line {number}" for number in range(100))
    lines = [line.strip() for line in str(LocalError("mlflow does not start:", log)).splitlines()]
    assert lines == ["mlflow does not start:", *(f"line {number}" for number in range(75, 100))]
