"""A limit for what an exchange with MLflow may take as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

from mlflow_provider.exceptions import MLflowUnreachableError

T = TypeVar("T")

# Outside of a task's own process others wait for it, too: in Airflow's DAG processor, in its API server.
SECONDS = 5.0


def within(work: Callable[[], T], seconds: float = SECONDS) -> T:
    """Return what a function returns, or raise if that takes too long; then it goes on, unheeded.

    Timeouts of sockets are not enough: they bound neither the resolution of a name, nor an answer that
    trickles, nor the sum of several requests.

    :param work: asks MLflow for something. It reads no Airflow connection.
    :param seconds: how long it may take.
    :raises MLflowUnreachableError: it took longer.
    :raises Exception: what the function raises.
    """
    result: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            result.append(work())
        except Exception as error:  # noqa: BLE001  # raised below
            errors.append(error)

    # A daemon, unlike those of an executor: Python does not wait for it when it ends.
    thread = threading.Thread(target=copy_context().run, args=(run,), name="mlflow-exchange", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not result:
        raise MLflowUnreachableError(f"MLflow did not answer within {seconds:g} seconds.")
    return result[0]
