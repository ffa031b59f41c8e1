"""Which run a try gets: a table of the newest run of its task instance, and the decision."""

from __future__ import annotations

import pytest

from mlflow_provider.tracking.retry_policy import decide
from mlflow_provider.tracking.runs import Run


def tags(try_number: int, max_tries: int = 2, clear_number: int = 0) -> dict[str, str]:
    return {
        "airflow.try_id": f"try-{try_number}",
        "airflow.try_number": str(try_number),
        "airflow.max_tries": str(max_tries),
        "airflow.clear_number": str(clear_number),
    }


def run(status: str, **numbers: int) -> Run:
    return Run("abc", "1", "train", status, start_time=0, tags=tags(**numbers))


OF_ANOTHER = {**tags(1), "airflow.try_id": "of another DAG run"}


@pytest.mark.parametrize(
    ("previous", "this_try", "new", "resumed"),
    [
        pytest.param(None, tags(1), "new", "new", id="first try"),
        pytest.param(run("FAILED", try_number=1), tags(2), "retry", "continue", id="retry after a failure"),
        pytest.param(run("RUNNING", try_number=1), tags(2), "retry", "continue", id="retry after kill -9"),
        pytest.param(run("KILLED", try_number=1), tags(2), "retry", "continue", id="retry after a kill"),
        pytest.param(
            run("FAILED", try_number=1),
            tags(2, clear_number=1),
            "retry",
            "continue",
            id="retry while another task is cleared",
        ),
        pytest.param(run("RUNNING", try_number=1), tags(1), "same", "same", id="deferred"),
        pytest.param(
            run("RUNNING", try_number=1),
            tags(1, clear_number=1),
            "same",
            "same",
            id="deferred while another task is cleared",
        ),
        pytest.param(
            run("FINISHED", try_number=1),
            tags(2, max_tries=3, clear_number=1),
            "new",
            "new",
            id="cleared after its end",
        ),
        pytest.param(
            run("RUNNING", try_number=1),
            tags(2, clear_number=1),
            "new",
            "new",
            id="cleared while it ran",
        ),
        pytest.param(
            run("KILLED", try_number=1),
            tags(2, clear_number=1),
            "new",
            "new",
            id="cleared while it ran, and ended by the task",
        ),
        pytest.param(run("FINISHED", try_number=1), tags(1), "same", "same", id="another block"),
        pytest.param(run("FINISHED", try_number=1), OF_ANOTHER, "new", "new", id="DAG run of the same ID"),
        pytest.param(
            run("FAILED", try_number=3),
            OF_ANOTHER,
            "new",
            "new",
            id="DAG run of the same ID, failed",
        ),
    ],
)
def test_what_a_try_does(previous, this_try, new, resumed):
    assert decide(previous, this_try, "new") == new
    assert decide(previous, this_try, "continue") == resumed
