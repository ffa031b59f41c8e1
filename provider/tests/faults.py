"""Failures that users may see, each reproduced by a test; a pytest plugin.

The mark of such a test is its row in a table::

    @pytest.mark.fault("MLflow is down for 5 s", sees="a later start", green="by itself")

:param what: what goes wrong.
:param sees: what the user sees, and where.
:param green: what makes the task green again.
:param lost: lost data that MLflow had acknowledged; nothing, unless the user has chosen that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

PROPERTY = "fault"
_OVER = pytest.StashKey[float]()


def row(what: str, *, sees: str, green: str, lost: str = "nothing") -> dict[str, str]:
    """Return the row of a mark, after checking its arguments."""
    return {"what": what, "sees": sees, "green": green, "lost": lost}


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line(
        "markers", "fault(what, *, sees, green, lost): reproduces a failure for the table"
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Add the row to the reports of a test."""
    if mark := item.get_closest_marker("fault"):
        item.user_properties.append((PROPERTY, row(*mark.args, **mark.kwargs)))


@pytest.fixture
def fault_is_over(request: pytest.FixtureRequest) -> Callable[[], None]:
    """A function that starts the clock for the recovery time; by default it starts with the test."""
    return lambda: request.node.stash.__setitem__(_OVER, time.time())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the recovery time."""
    report = yield
    if call.when == "call":
        report.user_properties.append(("seconds", call.stop - item.stash.get(_OVER, call.start)))
    return report
