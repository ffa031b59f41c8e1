"""Wait for something that takes time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import requests

SECONDS = 300  # a limit for what hangs, not for what is slow: the machine may be busy
Result = TypeVar("Result")


def wait_until(
    condition: str,
    look: Callable[[], Result],
    expected: Callable[[Result], object] = bool,
    seconds: float = SECONDS,
) -> Result:
    """Look repeatedly until the result is as expected, and return it.

    Errors of requests are ignored, because a server may be starting.

    :param condition: completes the sentence "Waited until ..."
    :raises AssertionError: the time is over.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            result = look()
            if expected(result):
                return result
            last: object = result
        except requests.RequestException as error:
            last = error
        assert time.monotonic() < deadline, f"Waited {seconds} s until {condition}; last result: {last!r}"
        time.sleep(0.2)
