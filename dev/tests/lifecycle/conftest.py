"""A copy of the project, whose stack these tests start, stop, upgrade and break."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev import MissingError
from dev.tests.helpers.clones import Clone, run_clone
from dev.tools import minio
from dev.waiting import wait_until
from local_stack.airflow_api import AirflowApi

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise the timeout, because the first test installs everything and may compile MinIO."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(2400))


@dataclass(frozen=True)
class Interrupted:
    """The output of the first installation, which was interrupted, and of the commands after it."""

    up: str
    down: str
    status: str


@pytest.fixture(scope="session")
def minio_program() -> str:
    """Path of a MinIO; empty if there is none and it cannot be compiled."""
    exists = shutil.which(os.environ.get("MINIO") or "minio") or not minio.missing()
    if os.environ.get("CI") or exists or shutil.which("go"):
        return str(minio.minio_binary())
    return ""


@pytest.fixture(scope="session")
def required_minio(minio_program: str) -> str:
    if not minio_program:
        raise MissingError("No minio on PATH, and no Go to compile it. Set MINIO=/path/to/minio.")
    return minio_program


@pytest.fixture(scope="session")
def _clone(tmp_path_factory: pytest.TempPathFactory, minio_program: str) -> Iterator[Clone]:
    with run_clone(tmp_path_factory.mktemp("clone").resolve(), minio_program) as clone:
        yield clone


@pytest.fixture(scope="session")
def interrupted(_clone: Clone) -> Interrupted:
    """Interrupt the first installation as soon as packages arrive, then run other commands."""
    process = _clone.start("up", **_clone.ports)
    packages = _clone.folder / ".venv" / "lib"
    wait_until("packages are being installed", lambda: len(list(packages.glob("*/site-packages/*"))) > 5)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    return Interrupted(output, _clone.make("down"), _clone.make("status"))


@pytest.fixture
def clone(_clone: Clone, interrupted: Interrupted) -> Iterator[Clone]:
    """A copy of the project whose stack may be up or down; its files are restored afterwards."""
    baseline = {file: file.read_bytes() for file in _sources(_clone.folder)}
    yield _clone
    for file in _sources(_clone.folder):
        if file not in baseline:
            file.unlink()
    for file, content in baseline.items():
        if not file.exists() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def _sources(folder: Path) -> list[Path]:
    kept = (
        "dags/*.py",
        "include/**/*.*",
        "local_stack/*.py",
        "provider/src/**/*.py",
        "*.txt",
        "*.yaml",
        ".env",
    )
    return [file for pattern in kept for file in folder.glob(pattern)]


@pytest.fixture
def stopped(clone: Clone) -> Clone:
    """The copy with everything installed, data from an earlier start, and its stack down."""
    if not (clone.folder / ".local" / "data" / "airflow" / "airflow.db").exists():
        _up(clone)
    clone.make("down")
    return clone


@pytest.fixture
def running(clone: Clone) -> Clone:
    """The copy with its stack up."""
    _up(clone)
    return clone


def _up(clone: Clone) -> None:
    """Start its stack. The ports of the first start are saved."""
    has_ports = (clone.folder / ".local" / "ports.json").exists()
    clone.make("up", **({} if has_ports else clone.ports))


@pytest.fixture
def airflow(running: Clone) -> AirflowApi:
    api = AirflowApi(running.airflow_port)
    api.log_in()
    return api


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Clone]:
    """Another copy, with nothing installed."""
    folder = tmp_path / "clone"
    folder.mkdir()
    with run_clone(folder) as clone:
        yield clone
    shutil.rmtree(folder, ignore_errors=True)
