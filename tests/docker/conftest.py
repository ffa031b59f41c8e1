"""The engine, the images and the project's containers, once for all tests; what a machine lacks is told."""

import os
from contextlib import nullcontext

import pytest
from mlflow import MlflowClient

from tests.docker import standins
from tests.docker.engine import MissingError, engine
from tests.docker.project import Project


@pytest.fixture(scope="session")
def project():
    """The project with its image built, and nothing started; what a test started is gone afterwards."""
    try:
        with engine() as docker:
            project = Project(docker)
            with standins.building(docker) if docker.is_ours else nullcontext():
                project.build()
            project.down("--volumes")  # what an interrupted run left
            yield project
            project.down("--volumes")
            docker("image", "rm", "--force", project.image)
    except MissingError as missing:
        # A machine that is there to test must not pass for want of the means.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))


@pytest.fixture(scope="session")
def started(project):
    """The project, which somebody started once."""
    project.start()
    return project


@pytest.fixture
def airflow(started):
    return started.airflow_api()


@pytest.fixture
def mlflow(started, monkeypatch):
    """MLflow's client, outside of the containers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{started.ports['MLFLOW_PORT']}")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # As README says: out here nobody knows the name `minio`.
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    return MlflowClient()
