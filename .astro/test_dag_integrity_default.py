"""Every DAG file imports. ``astro dev parse`` runs this in the image, and ``astro deploy`` before it deploys.

The Astro CLI finds this file by its name. ``dag_integrity_exceptions.txt`` lists files that may fail.
"""

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

PROJECT = Path(__file__).resolve().parents[1]
DAGS = PROJECT / "dags"
EXCUSED = (PROJECT / ".astro" / "dag_integrity_exceptions.txt").read_text().splitlines()

BAG = DagBag(DAGS, bundle_path=DAGS, bundle_name="dags-folder")
ERRORS = {str(DAGS / file): error for file, error in BAG.import_errors.items()}
FILES = sorted({dag.fileloc for dag in BAG.dags.values()} | ERRORS.keys())


@pytest.mark.parametrize("file", [str(Path(file).relative_to(PROJECT)) for file in FILES])
def test_file_imports(file):
    error = ERRORS.get(str(PROJECT / file))
    if error and file in EXCUSED:
        pytest.skip(f"is allowed not to import: {error.splitlines()[-1]}")
    assert not error, f"{file} does not import:\n{error}"
