"""DAG files that define the same DAG ID are found without importing them."""

import pytest

from local_stack.dag_files import duplicate_dag_ids

LESSON = """
from airflow.sdk import dag

@dag(schedule=None)
def lesson():
    pass

lesson()
"""
OTHER = LESSON.replace("lesson", "other")
DUPLICATE, UNIQUE = {"lesson": ["lesson.py", "mine/copy.py"]}, {}


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        pytest.param(LESSON, DUPLICATE, id="as it was"),
        pytest.param(LESSON.replace("@dag(schedule=None)", "@dag"), DUPLICATE, id="bare decorator"),
        pytest.param(OTHER.replace("schedule=None", 'dag_id="lesson"'), DUPLICATE, id="dag_id"),
        pytest.param(OTHER.replace("schedule=None", '"lesson"'), DUPLICATE, id="positional dag_id"),
        pytest.param(OTHER, UNIQUE, id="another name"),
        pytest.param(LESSON.replace("schedule=None", 'dag_id="other"'), UNIQUE, id="another ID"),
        pytest.param(LESSON.replace("@dag(schedule=None)\n", ""), UNIQUE, id="no DAG"),
        pytest.param("def lesson(:", UNIQUE, id="no Python"),
    ],
)
def test_a_copy_with_the_same_dag_id_is_found(tmp_path, copy, expected):
    (tmp_path / "mine").mkdir()
    (tmp_path / "lesson.py").write_text(LESSON)
    (tmp_path / "mine" / "copy.py").write_text(copy)
    assert duplicate_dag_ids(tmp_path) == expected
