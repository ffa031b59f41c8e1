"""Work with MLflow that takes too long is abandoned."""

from __future__ import annotations

import threading

import pytest

from mlflow_provider.exceptions import MLflowUnreachableError
from mlflow_provider.server.deadline import run_with_timeout


def test_what_the_work_returns_is_returned():
    assert run_with_timeout(lambda: None) is None
    assert run_with_timeout(lambda: "answer") == "answer"


def test_what_the_work_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        run_with_timeout(lambda: 1 / 0)


def test_work_that_takes_too_long_is_left_alone():
    ended = threading.Event()
    with pytest.raises(MLflowUnreachableError, match=r"did not respond within 0\.1 seconds"):
        run_with_timeout(ended.wait, seconds=0.1)
    ended.set()
