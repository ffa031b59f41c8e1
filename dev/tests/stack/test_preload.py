"""Tasks share the scheduler's import of mlflow, and no other state."""

from __future__ import annotations

import sys

import pytest


@pytest.mark.skipif(sys.platform == "darwin", reason="tasks get a new interpreter")
def test_tasks_start_with_mlflow_and_share_no_state(stack):
    run_id = stack.run("preload")

    first, second = (
        stack.airflow.xcom("preload", run_id, "return_value", task) for task in ("first", "second")
    )

    assert first["had_mlflow"]
    assert second["had_mlflow"]
    for own in ("process", "random", "numpy"):
        assert first[own] != second[own]
    for unset in ("tracking_uri", "variables"):
        assert first[unset] == second[unset]
