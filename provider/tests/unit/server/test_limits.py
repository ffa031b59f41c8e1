"""The timeouts of requests, and how long they are retried."""

from __future__ import annotations

import pytest

from mlflow_provider.server import limits
from mlflow_provider.server.connection import MLflowConnection
from mlflow_provider.server.limits import Limits


@pytest.mark.parametrize(
    ("timeout", "retry_timeout", "first", "later", "interactive", "trigger"),
    [
        (120.0, 60.0, Limits(20.0, 60.0), Limits(30.0, 240.0), Limits(10.0, 0), Limits(30.0, 0)),
        (5.0, 0.0, Limits(5.0, 0), Limits(5.0, 0), Limits(5.0, 0), Limits(5.0, 0)),
        (300.0, 60.0, Limits(300.0, 60.0), Limits(300.0, 240.0), Limits(10.0, 0), Limits(30.0, 0)),
    ],
    ids=["default", "shorter", "raised"],
)
def test_the_connections_timeout_counts_where_it_is_shorter_or_was_raised(
    timeout, retry_timeout, first, later, interactive, trigger
):
    connection = MLflowConnection(
        "mlflow_default", "http://mlflow:5000", timeout=timeout, retry_timeout=retry_timeout
    )

    assert limits.first_request(connection) == first
    assert limits.later_requests(connection) == later
    assert limits.interactive(connection) == interactive
    assert limits.trigger(connection) == trigger
