"""What holds for every DAG file: it parses without errors and cheaply, and explains itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DAGS = Path(__file__).resolve().parents[1] / "dags"
DAG_FILES = sorted(path.name for path in DAGS.glob("*.py"))
LESSONS = [name for name in DAG_FILES if name.startswith("mlflow_") and name.endswith("_dag.py")]

HEAVY = ("mlflow", "pandas", "numpy", "sklearn", "skops", "matplotlib", "boto3", "requests")


@pytest.fixture(scope="module")
def dags():
    """The DAGs by file name; every file holds one, named like the file."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(DAGS, bundle_path=DAGS, bundle_name="dags-folder")
    assert bag.import_errors == {}
    return {Path(dag.fileloc).name: dag for dag in bag.dags.values()}


def test_there_are_dag_files():
    assert DAG_FILES


def test_parsing_imports_nothing_heavy():
    """In a process of its own, where nobody else can have imported anything."""
    script = """
import json, runpy, sys
import airflow.sdk as sdk
sdk.BaseOperator, sdk.BaseHook, sdk.dag, sdk.task
before = set(sys.modules)
for path in sys.argv[1:]:
    runpy.run_path(path)
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""
    files = [str(DAGS / name) for name in DAG_FILES]
    done = subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True, check=True)
    imported = json.loads(done.stdout.splitlines()[-1])
    assert "mlflow_provider" in imported
    assert [name for name in HEAVY if name in imported] == []


@pytest.mark.parametrize("file", DAG_FILES)
def test_is_named_like_its_file(dags, file):
    assert dags[file].dag_id == Path(file).stem


@pytest.mark.parametrize("file", DAG_FILES)
def test_explains_itself_in_the_browser(dags, file):
    """Say what it shows, where to look in MLflow, and what to try."""
    doc = dags[file].doc_md
    assert doc.lstrip().startswith("## ")
    assert "**Try it:**" in doc
    assert "](/mlflow/open)" in doc  # leads to MLflow wherever it is
    assert "localhost" not in doc


@pytest.mark.parametrize("file", LESSONS)
def test_fits_into_the_dialog_and_begins_with_what_to_do(dags, file):
    doc = dags[file].doc_md
    assert len(doc.split()) < 250
    _title, first, *others = doc.strip().split("\n\n")
    assert first.startswith("**Try it:**")
    assert any(paragraph.startswith("**Exercise:**") for paragraph in others)


@pytest.mark.parametrize("file", DAG_FILES)
def test_is_safe_to_leave_alone(dags, file):
    dag = dags[file]
    assert dag.catchup is False
    assert "mlflow" in dag.tags
    for task in dag.tasks:
        assert task.owner == "mlflow-tutorial"
        assert task.retries >= 1, f"{task.task_id} is not retried"


@pytest.mark.skipif("mlflow_tutorial_dag.py" not in DAG_FILES, reason="the lesson was deleted")
def test_the_tutorial_has_its_tasks_in_order(dags):
    upstream = {task.task_id: task.upstream_task_ids for task in dags["mlflow_tutorial_dag.py"].tasks}
    assert upstream == {
        "create_experiment": set(),
        "scale_features": {"create_experiment"},
        "create_registered_model": {"scale_features"},
        "register_scaler": {"scale_features", "create_registered_model"},
    }
