"""The mistakes of the page about artifacts in real task processes: the log ends with the fix.

dev/tests/mlflow/test_artifacts_page.py also runs the code to use instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from dev.tests.helpers.documentation import blocks_run_by
from dev.waiting import wait_until

if TYPE_CHECKING:
    from dev.tests.helpers.embedded_stack import Stack

ON_PAGE = {
    f"mistake_{code.line}": (code, block)
    for code, block in pairwise(blocks_run_by("dev/tests/mlflow/test_artifacts_page.py"))
    if block.language == "text" and code.code.startswith("# fails")
}
# Patterns of the fix, by DAG ID.
FIXES = {
    **{dag_id: block.pattern for dag_id, (_, block) in ON_PAGE.items()},
    "global_variable": "the run ID is None; return the run ID",
    "databricks_experiment": "on Databricks the name must be an absolute path",
}


@pytest.fixture(scope="module")
def failed_runs(_stack: Stack) -> Iterator[dict[str, str]]:
    """A failed DAG run of each mistake, by DAG ID."""
    files = {dag_id: _stack.clone.folder / "dags" / f"{dag_id}.py" for dag_id in ON_PAGE}
    for dag_id, file in files.items():
        file.write_text(ON_PAGE[dag_id][0].dag_file.replace('"documented"', f'"{dag_id}"'))
    names = {file.name for file in files.values()}
    wait_until("the DAGs are parsed", _stack.airflow.parsed, lambda parsed: names <= parsed.keys())
    run_ids = {dag_id: _stack.airflow.trigger(dag_id) for dag_id in FIXES}
    for dag_id, run_id in run_ids.items():
        _stack.wait_for_end(dag_id, run_id)
    yield run_ids
    for file in files.values():
        file.unlink()


def shown(log: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the entries that Airflow's page shows; it does not expand groups."""
    depth = 0
    for entry in log:
        if "::group::" in entry["event"]:
            depth += 1
        elif "::endgroup::" in entry["event"]:
            depth = max(depth - 1, 0)
        elif not depth:
            yield entry


@pytest.mark.parametrize("dag_id", FIXES)
def test_the_log_of_a_failed_task_ends_with_the_fix(stack, failed_runs, dag_id):
    path = f"dags/{dag_id}/dagRuns/{failed_runs[dag_id]}/taskInstances"
    [task_id] = [
        task["task_id"] for task in stack.call("GET", path)["task_instances"] if task["state"] == "failed"
    ]
    *_, last = shown(stack.call("GET", f"{path}/{task_id}/logs/1")["content"])
    errors = [error["exc_value"] for error in last.get("error_detail") or []]
    assert re.search(FIXES[dag_id], " ".join([last["event"], *errors]))
