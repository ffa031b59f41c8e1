"""Every DAG parses without errors and cheaply, and has an owner, tags, retries and no catchup.

To add a test, write a function ``test_...`` in a file ``tests/test_*.py``. The fixture ``dags`` gives it all
DAGs. ``make test`` and ``astro dev pytest`` run it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DAGS = Path(__file__).resolve().parents[1] / "dags"
# Airflow parses DAG files again and again, so these are imported inside tasks.
HEAVY = {"mlflow", "pandas", "numpy", "sklearn", "skops", "matplotlib", "boto3", "requests"}


@pytest.fixture(scope="module")
def dags():
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(DAGS, bundle_path=DAGS, bundle_name="dags-folder")
    assert bag.import_errors == {}
    return list(bag.dags.values())


def test_parsing_imports_nothing_heavy():
    script = """
import json, runpy, sys
import airflow.sdk as sdk
sdk.BaseOperator, sdk.BaseHook, sdk.dag, sdk.task
before = set(sys.modules)
for path in sys.argv[1:]:
    runpy.run_path(path)
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""
    command = [sys.executable, "-c", script, *map(str, DAGS.glob("*.py"))]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(process.stdout.splitlines()[-1])) == set()


def test_every_dag_has_tags(dags):
    assert [dag.dag_id for dag in dags if not dag.tags] == []


def test_no_dag_catches_up(dags):
    assert [dag.dag_id for dag in dags if dag.catchup] == []


def test_every_task_has_an_owner_and_is_retried(dags):
    tasks = [task for dag in dags for task in dag.tasks]
    assert [task for task in tasks if task.owner == "airflow" or not task.retries] == []  # Airflow's defaults
