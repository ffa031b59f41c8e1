"""The engine and the images, once for all tests; what a machine lacks is told."""

import os

import pytest

from tests.docker import standins
from tests.docker.engine import MissingError, engine
from tests.docker.project import Project


@pytest.fixture(autouse=True)
def _artifacts_through_the_server(monkeypatch):
    """As README says for a client outside of the containers, where nobody knows the name `minio`."""
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")


@pytest.fixture(scope="session")
def docker():
    try:
        with engine() as docker:
            if docker.is_ours:
                standins.build(docker)
            yield docker
    except MissingError as missing:
        # A machine that is there to test must not pass for want of the means.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))


@pytest.fixture(scope="session")
def image(docker):
    project = Project(docker)
    project.build()
    yield project
    docker("image", "rm", "--force", project.image)


@pytest.fixture(scope="module")
def project(image):
    """The project with its image built, and nothing started; what a test started is gone afterwards."""
    project = Project(image.docker)
    project.down("--volumes")  # what an interrupted run left
    yield project
    project.down("--volumes")
