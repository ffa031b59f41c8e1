"""docs/faults.md: a row for each test that is marked, and tests that are there."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from dev.tools.faults import FOLDERS, PAGE, Fault, page
from dev.tools.kubeflow_cases import CASES
from local_stack.settings import ROOT


def marks() -> Iterator[str]:
    """What goes wrong, as the marks of all tests say it; an f-string's parts without what it fills in."""
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("test_*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                    [what] = node.args
                    yield what.value if isinstance(what, ast.Constant) else what.values[-1].value


def test_the_page_has_a_row_for_each_marked_test():
    """To renew it: make faults."""
    said = PAGE.read_text()

    assert [what for what in marks() if what not in said] == []


@pytest.mark.parametrize("test", sorted({test for case in CASES for test in case.tests}))
def test_a_test_that_the_page_names_exists(test):
    file, _, name = test.partition("::")

    assert f"def {name}(" in (ROOT / file).read_text()


def test_the_page_stays_the_same_where_only_the_seconds_change_a_little():
    def written(seconds: float) -> str:
        row = {"what": "MLflow is down", "sees": "nothing", "green": "by itself", "lost": "nothing"}
        return page([Fault(**row, place=("dev/tests/faults/test_mlflow.py", 1), seconds=seconds)])

    assert written(11) == written(29)
    assert "| 30 s |" in written(11)
