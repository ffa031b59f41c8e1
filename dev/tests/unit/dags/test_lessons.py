"""Rules for this project's own DAGs, in addition to those for every DAG in tests/test_dag_integrity.py."""

from pathlib import Path

import pytest

DAGS = Path(__file__).resolve().parents[4] / "dags"
DAG_IDS = sorted(path.stem for path in DAGS.glob("*.py"))
LESSONS = [name for name in DAG_IDS if name.startswith("mlflow_") and name.endswith("_dag")]


@pytest.fixture(scope="module")
def dags():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(DAGS, bundle_path=DAGS, bundle_name="dags-folder").dags


def test_each_file_has_one_dag_with_its_name(dags):
    assert sorted(dags) == DAG_IDS


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_dag_explains_itself_in_the_browser(dags, dag_id):
    doc = dags[dag_id].doc_md
    assert doc.lstrip().startswith("## ")
    assert "**Try it:**" in doc
    assert "](/mlflow/open" in doc  # a link to MLflow that works in every stack
    assert "localhost" not in doc
    assert "mlflow" in dags[dag_id].tags


@pytest.mark.parametrize("dag_id", LESSONS)
def test_a_lesson_fits_into_the_dialog_and_begins_with_what_to_do(dags, dag_id):
    doc = dags[dag_id].doc_md
    assert len(doc.split()) < 250
    _title, first, *others = doc.strip().split("\n\n")
    assert first.startswith("**Try it:**")
    assert any(paragraph.startswith("**Exercise:**") for paragraph in others)


def test_the_tutorial_has_its_tasks_in_order(dags):
    upstream = {task.task_id: task.upstream_task_ids for task in dags["mlflow_tutorial_dag"].tasks}
    assert upstream == {
        "create_experiment": set(),
        "scale_features": {"create_experiment"},
        "create_registered_model": {"scale_features"},
        "register_scaler": {"scale_features", "create_registered_model"},
    }
