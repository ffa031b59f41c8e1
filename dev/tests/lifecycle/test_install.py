"""The first installation, interrupted ones and changed ones."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest


def test_before_anything_is_installed_down_and_status_have_nothing_to_do(empty):
    assert "Nothing is installed" in empty.make("down")
    assert "Nothing is installed" in empty.make("status")
    assert not (empty.folder / ".venv").exists()


@pytest.mark.parametrize("value", ["80x", "0"])
def test_a_malformed_port_is_refused_before_anything_is_installed(empty, value):
    assert f"MLFLOW_PORT={value} is not a valid port" in empty.make("up", expect=2, MLFLOW_PORT=value)
    assert not (empty.folder / ".venv").exists()
    assert not (empty.folder / ".local" / "uv").exists()


def test_a_named_port_that_is_taken_is_refused_before_anything_is_installed(empty):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        output = empty.make("up", expect=2, MLFLOW_PORT=port)
    assert f"MLFLOW_PORT={port}: that port is taken" in output
    assert not (empty.folder / ".venv").exists()


def test_an_interrupted_installation_leaves_nothing_that_down_or_status_stumble_over(interrupted):
    assert "Interrupted. Nothing was started" in interrupted.by_itself
    assert "Nothing is installed" in interrupted.by_down
    assert "Nothing is installed" in interrupted.by_status
    for said in (interrupted.by_itself, interrupted.by_down, interrupted.by_status):
        assert "Traceback" not in said


def test_up_goes_on_where_an_installation_was_interrupted(stopped):
    """The copy of all these tests was interrupted first."""
    output = stopped.make("up")
    assert "Airflow" in output
    assert "Installing" not in output


def test_an_activated_environment_is_no_other_python(running):
    """As VS Code does it in every terminal."""
    programs = running.folder / ".venv" / "bin"
    output = running.make(
        "up",
        "PYTHON=python3",
        VIRTUAL_ENV=str(programs.parent),
        PATH=f"{programs}:{os.environ['PATH']}",
    )
    assert output.startswith("Already up\n")


def test_include_is_found_by_airflows_own_command_line(airflow, running):
    """As README says: the DAG's tasks run here, not by the scheduler."""
    airflow._call("PATCH", "/api/v2/dags/mlflow_task_dag", json={"is_paused": True})
    done = subprocess.run(
        [running.folder / ".venv" / "bin" / "airflow", "dags", "test", "mlflow_task_dag"],
        cwd="/",
        env={"AIRFLOW_HOME": str(running.folder / ".local/data/airflow"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "No module named" not in done.stdout + done.stderr


def test_env_file_is_ignored_by_git_and_has_an_example(clone):
    project = Path(__file__).parents[3]
    assert subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=project, check=False).returncode == 0
    assert (clone.folder / ".env.example").exists()


@pytest.fixture
def used(empty):
    """A copy in which somebody has worked; what is installed and the data are a file each."""
    for name in (".venv/x", ".local/mlflow-server/x", ".local/uv/x", ".local/data/x", ".local/ports.json"):
        (empty.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (empty.folder / name).write_text("{}")

    def left():
        return {file.name for file in (empty.folder / ".local").iterdir()} | {
            file.name for file in empty.folder.iterdir() if file.name == ".venv"
        }

    return empty, left


def test_clean_removes_what_was_installed_and_keeps_the_data(used):
    clone, left = used
    clone.make("clean")
    assert left() == {"data", "ports.json"}


def test_reset_removes_the_data_and_keeps_what_is_installed(used):
    clone, left = used
    clone.make("reset")
    assert left() == {".venv", "mlflow-server", "uv"}
