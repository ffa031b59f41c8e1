"""Your own project, created with the commands of its page: from a lesson, and without the lessons."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from uv import find_uv_bin

from dev.tests.helpers.clones import run_clone
from dev.tests.helpers.documentation import ROOT, code, read

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer

LESSON = "mlflow_task_dag"
PAGE = "docs/start/your-project.md"
DOCKERFILE = code(PAGE, "An Astro project", "dockerfile")
# uv instead of pip: it accepts the same arguments and has a cache.
PIP = f'#!/bin/sh\nexec "{find_uv_bin()}" pip "$@"\n'


@dataclass
class Project:
    """A folder next to the copy of this project, with an Airflow without our provider."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        venv = self.folder.with_name("venv")
        users = ("AIRFLOW", "MLFLOW", "PYTHON", "VIRTUAL_ENV", "TEMPLATE")
        self.variables |= {
            **{name: value for name, value in os.environ.items() if not name.startswith(users)},
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "VIRTUAL_ENV": str(venv),
            "PATH": f"{venv / 'bin'}:{Path(find_uv_bin()).parent}:{os.environ['PATH']}",
        }
        (self.folder / "dags").mkdir(parents=True)
        self.run(f"uv venv --python {sys.executable} {venv}")
        (venv / "bin" / "pip").write_text(PIP)
        (venv / "bin" / "pip").chmod(0o755)
        airflow = re.search(r"^apache-airflow==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
        self.run(f"uv pip install -q {airflow[0]} -c {ROOT / 'constraints.txt'}")
        self.run("airflow db migrate")

    def run(self, commands: str) -> str:
        """Run shell commands in its folder, check that they succeed, and return their output."""
        process = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, f"{commands}\n{process.stdout[-4000:]}\n{process.stderr[-4000:]}"
        return process.stdout + process.stderr


@pytest.fixture
def template(tmp_path: Path) -> Iterator[Path]:
    """A copy of this project, where the page's commands expect it."""
    folder = tmp_path / "mlflow-airflow"
    folder.mkdir()
    with run_clone(folder) as clone:
        yield clone.folder


@pytest.fixture
def project(template: Path) -> Project:
    return Project(template.with_name("my-project"))


def runs_of_the_lesson(server: MLflowServer) -> list[str]:
    """The statuses of the lesson's runs in its experiment."""
    api = f"{server.url}/api/2.0/mlflow"
    experiment = requests.get(
        f"{api}/experiments/get-by-name", params={"experiment_name": "Housing"}, timeout=60
    )
    if experiment.status_code == requests.codes.not_found:
        return []
    ids = [experiment.json()["experiment"]["experiment_id"]]
    query = {"experiment_ids": ids, "filter": f"tags.`airflow.dag_id` = '{LESSON}'"}
    runs = requests.post(f"{api}/runs/search", json=query, timeout=60).json().get("runs", [])
    return [run["info"]["status"] for run in runs]


def test_a_lesson_runs_in_an_airflow_without_astro(project, mlflow_server):
    baseline = runs_of_the_lesson(mlflow_server)
    airflow = project.run("airflow version")
    commands = code(PAGE, "An Airflow without Astro", "bash")

    project.run(commands.replace("http://localhost:5000", mlflow_server.url))

    after = runs_of_the_lesson(mlflow_server)
    assert len(after) > len(baseline)
    assert set(after) == {"FINISHED"}
    assert project.run("airflow version") == airflow


def test_a_lesson_runs_in_an_astro_project(project, mlflow_server):
    """Without Docker: the steps of the image build run in a virtual environment."""
    baseline = runs_of_the_lesson(mlflow_server)
    for name in ("requirements.txt", "packages.txt"):
        (project.folder / name).write_text("# yours\n")
    project.run(code(PAGE, "An Astro project", "bash"))
    in_the_image = {
        "/usr/local/airflow": str(project.folder),
        "/etc/pip-constraints.txt": str(ROOT / "constraints.txt"),
        "--system ": "",  # the image has no virtual environment
    }
    run = " && ".join(re.findall(r"^RUN (.+)", DOCKERFILE, re.MULTILINE))
    for there, here in in_the_image.items():
        run = run.replace(there, here)
    project.run("uv pip install -q -r requirements.txt")
    project.run(run)
    project.variables["PYTHONPATH"] = str(project.folder)
    connection = shlex.quote(json.dumps({"conn_type": "mlflow", **mlflow_server.connection}))
    project.run(f"AIRFLOW_CONN_MLFLOW_DEFAULT={connection} airflow dags test {LESSON}")

    after = runs_of_the_lesson(mlflow_server)
    assert len(after) > len(baseline)
    assert set(after) == {"FINISHED"}


def test_the_requirements_of_the_original_tutorial_conflict_with_ours():
    original = re.findall(r"`([\w-]+==[\d.]+)`", read(PAGE).text)
    assert original == ["airflow-provider-mlflow==1.1.0", "mlflow-skinny==2.3.2"]
    command = [find_uv_bin(), "pip", "compile", "-", ROOT / "requirements.txt"]
    resolved = subprocess.run(command, input="\n".join(original), capture_output=True, text=True, check=False)
    assert "you require mlflow-skinny==2.3.2 and mlflow-skinny>=3" in " ".join(resolved.stderr.split())


def test_the_page_installs_the_provider_in_an_image_as_this_project_does():
    assert DOCKERFILE in (ROOT / "Dockerfile").read_text()


def test_the_stack_starts_without_the_lessons(stopped):
    commands = ["bash", "-euc", code(PAGE, "Without the lessons", "bash")]
    subprocess.run(commands, cwd=stopped.folder, check=True)

    output = stopped.make("up")

    assert "Airflow  http://localhost:" in output
    assert "cannot import" not in output
    assert not list((stopped.folder / "include").iterdir())
