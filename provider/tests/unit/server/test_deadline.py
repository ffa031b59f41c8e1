"""An exchange that takes too long is given up."""

from __future__ import annotations

import threading

import pytest

from mlflow_provider.exceptions import MLflowUnreachableError
from mlflow_provider.server.deadline import within


def test_what_the_work_returns_is_returned():
    assert within(lambda: None) is None
    assert within(lambda: "answer") == "answer"


def test_what_the_work_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        within(lambda: 1 / 0)


def test_work_that_takes_too_long_is_left_alone():
    ended = threading.Event()
    with pytest.raises(MLflowUnreachableError, match=r"did not answer within 0\.1 seconds"):
        within(ended.wait, seconds=0.1)
    ended.set()
