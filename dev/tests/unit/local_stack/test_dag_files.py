"""DAG files that claim the same DAG ID are found without importing them."""

import pytest

from local_stack.dag_files import duplicate_dag_ids

LESSON = """
from airflow.sdk import dag

@dag(schedule=None)
def lesson():
    pass

lesson()
"""


@pytest.fixture
def write(tmp_path):
    """A function that writes a DAG file, and the original next to it."""

    def write_copy(text: str, name: str = "copy.py") -> None:
        (tmp_path / "lesson.py").write_text(LESSON)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    return write_copy


@pytest.mark.parametrize(
    "text",
    [
        LESSON,
        LESSON.replace("@dag(schedule=None)", "@dag"),
        LESSON.replace("lesson()", "other()").replace("schedule=None", 'dag_id="lesson"'),
        LESSON.replace("lesson()", "other()").replace("schedule=None", '"lesson"'),
    ],
    ids=["as it was", "bare decorator", "dag_id", "positional dag_id"],
)
def test_a_copy_with_the_same_id_is_found(write, tmp_path, text):
    write(text)
    assert duplicate_dag_ids(tmp_path) == {"lesson": ["copy.py", "lesson.py"]}


def test_a_copy_in_a_folder_is_found(write, tmp_path):
    write(LESSON, "mine/copy.py")
    assert duplicate_dag_ids(tmp_path) == {"lesson": ["lesson.py", "mine/copy.py"]}


@pytest.mark.parametrize(
    "text",
    [
        LESSON.replace("lesson()", "other()"),
        LESSON.replace("schedule=None", 'dag_id="other"'),
        LESSON.replace("@dag(schedule=None)\n", ""),
        "def lesson(:",
    ],
    ids=["another name", "another ID", "no DAG", "no Python"],
)
def test_anything_else_is_none(write, tmp_path, text):
    write(text)
    assert duplicate_dag_ids(tmp_path) == {}
