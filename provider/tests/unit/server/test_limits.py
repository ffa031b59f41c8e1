"""The timeouts and retries of requests."""

from __future__ import annotations

import pytest

from mlflow_provider.server import limits
from mlflow_provider.server.connection import MLflowConnection
from mlflow_provider.server.limits import Limits


@pytest.mark.parametrize(
    ("timeout", "retries", "first", "later", "interactive", "trigger"),
    [
        (120.0, 4, Limits(20.0, 4, read_retries=1), Limits(30.0, 6), Limits(10.0, 0), Limits(30.0, 0)),
        (5.0, 0, Limits(5.0, 0, read_retries=0), Limits(5.0, 2), Limits(5.0, 0), Limits(5.0, 0)),
        (300.0, 4, Limits(300.0, 4, read_retries=1), Limits(300.0, 6), Limits(10.0, 0), Limits(30.0, 0)),
    ],
    ids=["default", "shorter", "raised"],
)
def test_the_connections_timeout_counts_where_it_is_shorter_or_was_raised(
    timeout, retries, first, later, interactive, trigger
):
    connection = MLflowConnection("mlflow_default", "http://mlflow:5000", timeout=timeout, retries=retries)

    assert limits.first_request(connection) == first
    assert limits.later_requests(connection) == later
    assert limits.interactive(connection) == interactive
    assert limits.trigger(connection) == trigger
