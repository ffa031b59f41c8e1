"""The progress display."""

import io

from rich.console import Console

from local_stack.waiting import wait_for


def test_outside_a_terminal_each_thing_is_one_plain_line():
    answers = iter([["mlflow", "scheduler"], ["scheduler"], ["scheduler"], []])
    output = io.StringIO()
    assert wait_for(Console(file=output), lambda: next(answers), patience=10) == []
    assert [line.split(" (")[0] for line in output.getvalue().splitlines()] == [
        "mlflow is up",
        "scheduler is up",
    ]
    assert "\x1b" not in output.getvalue()


def test_what_does_not_come_is_returned():
    assert wait_for(Console(file=io.StringIO()), lambda: ["mlflow"], patience=0.1) == ["mlflow"]
