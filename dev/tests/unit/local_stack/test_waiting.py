"""The progress display."""

import io

from rich.console import Console

from local_stack.waiting import wait_for


def test_outside_a_terminal_each_thing_gets_one_plain_line():
    answers = iter([["mlflow", "scheduler"], ["scheduler"], ["scheduler"], []])
    output = io.StringIO()
    assert wait_for(Console(file=output), lambda: next(answers), timeout=10) == []
    lines = output.getvalue().splitlines()
    assert [line.split(" (")[0] for line in lines] == ["mlflow is up", "scheduler is up"]
    assert "\x1b" not in output.getvalue()


def test_what_is_still_missing_is_returned():
    assert wait_for(Console(file=io.StringIO()), lambda: ["mlflow"], timeout=0.1) == ["mlflow"]
