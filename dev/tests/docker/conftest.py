"""The engine, the images and the project's containers, once for all tests; what a machine lacks is told."""

import os
from pathlib import Path

import pytest

from dev.tests.docker.engine import MissingError
from dev.tests.docker.project import NAME, Project, built_images

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config, items):
    """Skip them in `make faults`, which only names them."""
    for item in items:
        if item.path.is_relative_to(HERE) and config.option.markexpr == "fault":
            item.add_marker(pytest.mark.skip(reason="`make docker-test` runs it."))


@pytest.fixture(scope="session")
def docker():
    """Docker's command line, with all images there, the project's too; that one is gone afterwards."""
    try:
        with built_images() as docker:
            yield docker
    except MissingError as missing:
        # A machine that is there to test must not pass for want of the means.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))


def _project(docker, name):
    project = Project(docker, name)
    project.down("--volumes", seconds=0)  # what an interrupted run left
    yield project
    project.down("--volumes", seconds=0)


@pytest.fixture(scope="session")
def project(docker):
    """The project, in whatever state; what a test started is gone in the end."""
    yield from _project(docker, NAME)


@pytest.fixture
def started(project):
    """The project, as somebody started it."""
    if not project.is_started():
        project.start()
    return project


@pytest.fixture(scope="session")
def alone(docker):
    """MLflow with its database and MinIO, for what would disturb the project; in whatever state."""
    yield from _project(docker, f"{NAME}-mlflow")


@pytest.fixture
def airflow(started):
    return started.airflow_api()


@pytest.fixture
def mlflow(started, monkeypatch):
    """MLflow's client, outside of the containers."""
    return started.mlflow_client(monkeypatch)
