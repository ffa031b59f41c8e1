"""docs/explain/faults.md has a row for each marked test, and does not change with every run."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from dev.tools.faults import FOLDERS, PAGE, Fault, page
from local_stack.settings import ROOT


def marks() -> Iterator[str]:
    """What the marks of all tests name; of an f-string the last constant part."""
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("test_*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                    [what] = node.args
                    yield what.value if isinstance(what, ast.Constant) else what.values[-1].value


def test_the_page_has_a_row_for_each_marked_test():
    """To renew it: make -C dev faults."""
    rows = PAGE.read_text()
    named = list(marks())
    assert len(named) > 40
    assert [what for what in named if what not in rows] == []


def test_the_page_does_not_change_if_only_the_seconds_change_a_little():
    def page_after(seconds: float) -> str:
        row = {"what": "MLflow is down", "sees": "nothing", "green": "by itself", "lost": "nothing"}
        return page([Fault(**row, place=("dev/tests/faults/test_mlflow.py", 1), seconds=seconds)])

    assert page_after(11) == page_after(29)
    assert "| 30 s |" in page_after(11)
