"""Servers that read from a replica of their database, which may be some seconds behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from mlflow_provider.exceptions import MLflowNotFoundError

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_LAG_SECONDS = 15.0
PAUSE_SECONDS = 0.5


def until_visible(what: str, look: Callable[[], T]) -> T:
    """Return what a function finds; call it again while it finds nothing, because a replica may be behind.

    :param what: what must exist, for the log.
    :param look: returns nothing, or raises :class:`MLflowNotFoundError`, if it does not find it.
    :raises MLflowNotFoundError: it was not found within 15 seconds.
    """
    deadline = time.monotonic() + MAX_LAG_SECONDS
    is_first = True
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except MLflowNotFoundError:
            log.debug("%s was not found.", what, exc_info=True)
        if is_first:
            log.info(
                "MLflow does not show %s yet; waiting for up to %g seconds. It may read from a replica of "
                "its database that is behind.",
                what,
                MAX_LAG_SECONDS,
            )
        is_first = False
        time.sleep(PAUSE_SECONDS)
    found = look()
    if not found:
        log.warning("MLflow still does not show %s; continuing without it.", what)
    return found
