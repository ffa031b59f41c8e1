"""Faults: what goes wrong at a user's, each made to happen by a test; a pytest plugin.

The mark of such a test is its row in a table::

    @pytest.mark.fault("MLflow is down for 5 s", sees="a later start", green="by itself")

:param what: what goes wrong.
:param sees: what the user sees of it, and where.
:param green: what makes the task green again.
:param lost: what is lost of what MLflow had acknowledged, or was told; nothing, unless that is the choice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

PROPERTY = "fault"
_OVER = pytest.StashKey[float]()


def row(what: str, *, sees: str, green: str, lost: str = "nothing") -> dict[str, str]:
    """Return the row that a mark makes, which also checks its arguments."""
    return {"what": what, "sees": sees, "green": green, "lost": lost}


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "fault(what, *, sees, green, lost): makes this happen, for a table")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let the reports of a test carry its row."""
    if mark := item.get_closest_marker("fault"):
        item.user_properties.append((PROPERTY, row(*mark.args, **mark.kwargs)))


@pytest.fixture
def fault_is_over(request: pytest.FixtureRequest) -> Callable[[], None]:
    """A function to call at the moment from which the time to recovery counts; else the test's beginning."""
    return lambda: request.node.stash.__setitem__(_OVER, time.time())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note how long it took to recover."""
    report = yield
    if call.when == "call":
        report.user_properties.append(("seconds", call.stop - item.stash.get(_OVER, call.start)))
    return report
