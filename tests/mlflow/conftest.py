<<<<<<< HEAD
"""An Airflow that ``dag.test()`` can run DAGs on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
=======
"""What tests that run DAGs by ``dag.test()`` share."""

import subprocess
import sys
from pathlib import Path
>>>>>>> pipeline

import pytest


@pytest.fixture(scope="session")
<<<<<<< HEAD
def _airflow_database() -> None:
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True)


@pytest.fixture
def load_dags(_airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], dict[str, Any]]:
    """A function that reads the DAGs of a folder, by ID; there is a database to run them on."""
    from airflow import settings
    from airflow.dag_processing.dagbag import DagBag

    def load(folder: Path) -> dict[str, Any]:
        monkeypatch.setattr(settings, "DAGS_FOLDER", str(folder))  # where dag.test() looks for them, too
        bag = DagBag(folder, bundle_path=folder, bundle_name="dags-folder")
        assert bag.import_errors == {}
        return bag.dags

    return load
=======
def airflow_database():
    """A database to run DAGs on."""
    subprocess.run(
        [Path(sys.executable).with_name("airflow"), "db", "migrate"], check=True, capture_output=True
    )
>>>>>>> pipeline
