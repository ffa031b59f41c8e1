"""The headers of a connection as MLflow's ``RequestHeaderProvider``; see the entry point of that name.

Imported by MLflow in every process that it finds the entry point in, so this module imports little.
"""

from __future__ import annotations

import json
import os

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
