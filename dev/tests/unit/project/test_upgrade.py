"""The upgrade that the documentation describes keeps the work of the project's user."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dev.tests.helpers.documentation import read

MERGE, DELETE_AGAIN = (
    block.code for block in read("docs/start/your-project.md").blocks if block.heading == "Upgrade"
)
LESSON = "x = 1\n\n\n\n\n\ny = 1\n"


def shell(folder: Path, commands: str, expect: int = 0) -> None:
    identity = 'git() { command git -c user.name=Ada -c user.email=ada@example.com "$@"; }\n'
    process = subprocess.run(
        ["bash", "-ec", identity + commands], cwd=folder, capture_output=True, text=True, check=False
    )
    assert process.returncode == expect, process.stdout + process.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone with an exercise and a DAG of the user's; the original has a new version of each lesson."""
    original, clone = tmp_path / "original", tmp_path / "clone"
    (original / "dags").mkdir(parents=True)
    for name in ("hook", "task"):
        (original / "dags" / f"mlflow_{name}_dag.py").write_text(LESSON)
    shell(original, "git init -q -b main && git add . && git commit -qm 1")
    shell(tmp_path, "git clone -q original clone")
    for name in ("hook", "task"):
        (original / "dags" / f"mlflow_{name}_dag.py").write_text(LESSON.replace("y = 1", "y = 2"))
    shell(original, "git commit -qam 2")
    (clone / "dags" / "mlflow_hook_dag.py").write_text(LESSON.replace("x = 1", "x = 'exercise'"))
    (clone / "dags" / "my_dag.py").write_text("mine = True\n")
    return clone


def test_an_exercise_and_a_new_dag_are_merged_with_the_new_version(project):
    shell(project, MERGE)
    files = {file.name: file.read_text() for file in (project / "dags").iterdir()}
    assert files == {
        "mlflow_hook_dag.py": "x = 'exercise'\n\n\n\n\n\ny = 2\n",
        "mlflow_task_dag.py": LESSON.replace("y = 1", "y = 2"),
        "my_dag.py": "mine = True\n",
    }


def test_deleted_lessons_stay_deleted(project):
    for lesson in project.glob("dags/mlflow_*_dag.py"):
        lesson.unlink()
    shell(project, MERGE, expect=1)
    shell(project, DELETE_AGAIN)
    assert [file.name for file in (project / "dags").iterdir()] == ["my_dag.py"]
