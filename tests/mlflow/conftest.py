"""What tests that run DAGs by ``dag.test()`` share."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def airflow_database():
    """A database to run DAGs on."""
    subprocess.run(
        [Path(sys.executable).with_name("airflow"), "db", "migrate"], check=True, capture_output=True
    )
