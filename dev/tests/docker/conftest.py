"""The engine, the images and the project's containers, once for all tests."""

import pytest

from dev.docker.project import NAME, PORTS, Project, built_images
from dev.tests.helpers.artifacts import mlflow_client
from mlflow_servers import free_port


@pytest.fixture(scope="session")
def docker():
    """Docker's command line, with all images; the project's image is removed afterwards."""
    with built_images() as docker:
        yield docker


def _project(docker, name):
    project = Project(docker, name, {port: free_port() for port in PORTS})
    project.down("--volumes", seconds=0)  # what an interrupted run left
    yield project
    project.down("--volumes", seconds=0)


@pytest.fixture(scope="session")
def project(docker):
    """The project, started or not."""
    yield from _project(docker, NAME)


@pytest.fixture
def started(project):
    """The started project."""
    if not project.is_started():
        project.start()
    return project


@pytest.fixture(scope="session")
def alone(docker):
    """MLflow with its database and MinIO, started or not, for tests that would disturb the project."""
    yield from _project(docker, f"{NAME}-mlflow")


@pytest.fixture
def airflow(started):
    return started.airflow_api()


@pytest.fixture
def mlflow(started, monkeypatch):
    """MLflow's client, outside the containers."""
    return mlflow_client(started.ports["MLFLOW_PORT"], monkeypatch)
