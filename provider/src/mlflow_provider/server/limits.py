"""How long a request to MLflow may take, and how long it is retried."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_provider.server.connection import MLflowConnection

# MLflow's default: a response may take this long while the server writes a large artifact to its store.
DEFAULT_TIMEOUT_SECONDS = 120.0
DEFAULT_RETRY_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """Limits of each request.

    :param timeout: seconds in which a response must be complete.
    :param retry_timeout: seconds in which a failed request is retried; 0 for no retries.
    :param repeat: whether to repeat a request that the server may have received.
    """

    timeout: float
    retry_timeout: float = 0.0
    repeat: bool = True


DEFAULT = Limits(DEFAULT_TIMEOUT_SECONDS, DEFAULT_RETRY_TIMEOUT_SECONDS)
# Airflow kills a process five seconds after SIGTERM.
TERMINATION = Limits(timeout=2.0)
# Outside the task's process others wait too: callbacks in the DAG processor, pages in the API server.
OUTSIDE_TASK = Limits(timeout=5.0)

# Airflow kills a process twenty seconds after its task has reported its state.
AFTER_TASK = Limits(timeout=5.0, retry_timeout=2.0)

FIRST_REQUEST_TIMEOUT = 20.0
LATER_REQUESTS_TIMEOUT = 30.0
# With the default, as long as MLflow's own client by its defaults: four minutes.
LATER_REQUESTS_FACTOR = 4
END_OF_RUN_FACTOR = 10  # ten minutes
INTERACTIVE_TIMEOUT = 10.0
TRIGGER_TIMEOUT = 30.0
MAX_BACKOFF_SECONDS = 10


def first_request(connection: MLflowConnection) -> Limits:
    """Return the limits of a task's first request: a server that hangs is reported within a minute."""
    timeout = _unless_raised(connection, FIRST_REQUEST_TIMEOUT)
    return Limits(timeout, connection.retry_timeout)


def later_requests(connection: MLflowConnection) -> Limits:
    """Return the limits of a task's other requests: its results are worth a longer wait."""
    timeout = _unless_raised(connection, LATER_REQUESTS_TIMEOUT)
    return Limits(timeout, LATER_REQUESTS_FACTOR * connection.retry_timeout)


def end_of_run(connection: MLflowConnection) -> Limits:
    """Return the limits of the end of a run: a task that may have worked for hours must not fail there."""
    return replace(later_requests(connection), retry_timeout=END_OF_RUN_FACTOR * connection.retry_timeout)


def interactive(connection: MLflowConnection) -> Limits:
    """Return the limits for someone who waits for the result: fail fast."""
    return Limits(min(connection.timeout, INTERACTIVE_TIMEOUT))


def trigger(connection: MLflowConnection) -> Limits:
    """Return the limits in the triggerer, where few threads wait for responses and each poll is a retry."""
    return Limits(min(connection.timeout, TRIGGER_TIMEOUT))


def backoff(attempt: int) -> float:
    """Return how many seconds to wait after a failed attempt: about 1, 2, 4, 8, 10, 10, ...

    :param attempt: the number of failed attempts before this one.
    """
    # Tasks that start together must not retry together.
    return min(2**attempt, MAX_BACKOFF_SECONDS) * random.uniform(0.5, 1.5)  # noqa: S311


def _unless_raised(connection: MLflowConnection, seconds: float) -> float:
    """Return a shorter timeout than the connection's, unless that was raised above the default."""
    is_raised = connection.timeout > DEFAULT_TIMEOUT_SECONDS
    return connection.timeout if is_raised else min(connection.timeout, seconds)
