"""How long a request to MLflow may take, and how often it is retried."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_provider.server.connection import DEFAULT_TIMEOUT_SECONDS, MLflowConnection


@dataclass(frozen=True)
class Limits:
    """Limits of each request.

    :param timeout: seconds to wait for a response.
    :param retries: how often to retry.
    :param read_retries: how often to retry when no response came in time; as ``retries`` by default.
    """

    timeout: float
    retries: int
    read_retries: int | None = None


# Airflow kills a process five seconds after SIGTERM.
TERMINATION = Limits(timeout=2.0, retries=0)
# Outside the task's process others wait too: callbacks in the DAG processor, pages in the API server.
OUTSIDE_TASK = Limits(timeout=5.0, retries=0)

# Airflow kills a process twenty seconds after its task has reported its state.
AFTER_TASK = Limits(timeout=5.0, retries=1)

FIRST_REQUEST_TIMEOUT = 20.0
LATER_REQUESTS_TIMEOUT = 30.0
ADDITIONAL_RETRIES = 2
INTERACTIVE_TIMEOUT = 10.0
TRIGGER_TIMEOUT = 30.0


def first_request(connection: MLflowConnection) -> Limits:
    """Return the limits of a task's first request: a server that hangs is reported within a minute."""
    timeout = _unless_raised(connection, FIRST_REQUEST_TIMEOUT)
    return Limits(timeout, connection.retries, read_retries=min(connection.retries, 1))


def later_requests(connection: MLflowConnection) -> Limits:
    """Return the limits of a task's other requests: its results are worth a wait of two minutes."""
    timeout = _unless_raised(connection, LATER_REQUESTS_TIMEOUT)
    return Limits(timeout, connection.retries + ADDITIONAL_RETRIES)


def interactive(connection: MLflowConnection) -> Limits:
    """Return the limits for someone who waits for the result: fail fast."""
    return Limits(min(connection.timeout, INTERACTIVE_TIMEOUT), retries=0)


def trigger(connection: MLflowConnection) -> Limits:
    """Return the limits in the triggerer, where few threads wait for responses and each poll is a retry."""
    return Limits(min(connection.timeout, TRIGGER_TIMEOUT), retries=0)


def _unless_raised(connection: MLflowConnection, seconds: float) -> float:
    """Return a shorter timeout than the connection's, unless that was raised above the default."""
    is_raised = connection.timeout > DEFAULT_TIMEOUT_SECONDS
    return connection.timeout if is_raised else min(connection.timeout, seconds)
