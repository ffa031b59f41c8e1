"""The headers of a connection as MLflow's ``RequestHeaderProvider``; see the entry point of that name.

Imported by MLflow in every process that it finds the entry point in, so this module imports little.
"""

from __future__ import annotations

import json
import logging
import os
from functools import cache
from importlib.metadata import entry_points
from typing import Any

log = logging.getLogger(__name__)

# The environment passes the headers on to the processes that a task starts.
VARIABLE = "AIRFLOW_MLFLOW_HEADERS"


class RequestHeaders:
    """The headers in Extra of the connection that this process uses.

    Not a subclass of ``RequestHeaderProvider``, which would import ``mlflow``.
    """

    def in_context(self) -> bool:
        """Return whether the connection has headers."""
        return VARIABLE in os.environ

    def request_headers(self) -> dict[str, str]:
        """Return the headers."""
        return json.loads(os.environ[VARIABLE])


def of_plugins() -> dict[str, str]:
    """Return the headers that MLflow's client would send for the header providers of other packages."""
    headers: dict[str, str] = {}
    for provider in plugins():
        try:
            if provider.in_context():
                headers.update(provider.request_headers())
        except Exception:  # noqa: PERF203  # MLflow's client also continues without them
            log.debug("No headers of %s.", type(provider).__name__, exc_info=True)
    return headers


@cache
def plugins() -> list[Any]:
    """Return the header providers of other packages."""
    found = entry_points(group="mlflow.request_header_provider")
    return [each.load()() for each in found if not each.value.startswith("mlflow_provider.")]
