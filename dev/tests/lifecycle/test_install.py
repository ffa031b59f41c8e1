"""The first installation, and interrupted ones."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from dev.tests.helpers.clones import ROOT


def test_down_and_status_work_before_anything_is_installed(empty):
    assert "Nothing is installed" in empty.make("down")
    assert "Nothing is installed" in empty.make("status")
    assert not (empty.folder / ".venv").exists()


@pytest.mark.parametrize("value", ["80x", "0"])
def test_an_invalid_port_is_rejected_before_anything_is_installed(empty, value):
    assert f"MLFLOW_PORT={value} is not a valid port" in empty.make("up", expect=2, MLFLOW_PORT=value)
    assert not (empty.folder / ".venv").exists()
    assert not (empty.folder / ".local" / "uv").exists()


def test_a_taken_port_is_rejected_before_anything_is_installed(empty):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        output = empty.make("up", expect=2, MLFLOW_PORT=port)
    assert f"MLFLOW_PORT={port}: that port is taken" in output
    assert not (empty.folder / ".venv").exists()


def test_down_and_status_work_after_an_interrupted_installation(interrupted):
    assert "Interrupted. Nothing was started" in interrupted.up
    assert "Nothing is installed" in interrupted.down
    assert "Nothing is installed" in interrupted.status
    assert "Traceback" not in interrupted.up + interrupted.down + interrupted.status


def test_the_dev_container_completes_an_interrupted_installation_and_answers_at_its_name(stopped):
    """The first installation of this copy was interrupted. The container itself needs a registry."""
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text()
    command = json.loads(re.sub(r"^ *//.*$", "", text, flags=re.MULTILINE))["postStartCommand"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "AIRFLOW", "MLFLOW_"))}
    codespace = {"CODESPACE_NAME": "octocat", "GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN": "app.example.com"}
    python = str(Path(sys.base_prefix) / "bin" / "python3")
    environment = {**inherited, **codespace, "PYTHON": python, "MINIO": stopped.minio}

    output = subprocess.check_output(["sh", "-c", command], cwd=stopped.folder, env=environment, text=True)

    assert "Airflow  http://localhost:" in output
    assert "Installing" not in output
    page = f"http://127.0.0.1:{stopped.airflow_port}/"
    assert requests.get(page, headers={"Host": "octocat-8080.app.example.com"}, timeout=60).ok
    assert requests.get(page, headers={"Host": "another-8080.app.example.com"}, timeout=60).status_code == 400


def test_an_activated_environment_is_not_another_python(running):
    """VS Code activates it in every terminal."""
    programs = running.folder / ".venv" / "bin"
    output = running.make(
        "up",
        "PYTHON=python3",
        VIRTUAL_ENV=str(programs.parent),
        PATH=f"{programs}:{os.environ['PATH']}",
    )
    assert output.startswith("Already up\n")


def test_airflows_command_line_finds_include(airflow, running):
    """With README's command; the tasks run in this process."""
    airflow.call("PATCH", "/api/v2/dags/mlflow_task_dag", json={"is_paused": True})
    process = subprocess.run(
        [running.folder / ".venv" / "bin" / "airflow", "dags", "test", "mlflow_task_dag"],
        cwd="/",
        env={"AIRFLOW_HOME": str(running.folder / ".local/data/airflow"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    assert "No module named" not in process.stdout + process.stderr


def test_git_ignores_the_env_file():
    subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=Path(__file__).parents[3], check=True)


@pytest.mark.parametrize(
    ("target", "expected"), [("clean", {"data", "ports.json"}), ("reset", {".venv", "mlflow-server", "uv"})]
)
def test_clean_keeps_the_data_and_reset_keeps_what_is_installed(empty, target, expected):
    for name in (".venv/x", ".local/mlflow-server/x", ".local/uv/x", ".local/data/x", ".local/ports.json"):
        (empty.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (empty.folder / name).write_text("{}")
    empty.make(target)
    left = {file.name for file in (empty.folder / ".local").iterdir()}
    left |= {file.name for file in empty.folder.iterdir() if file.name == ".venv"}
    assert left == expected
