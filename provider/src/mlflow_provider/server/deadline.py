"""A time limit for several requests to MLflow together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

from mlflow_provider.exceptions import MLflowUnreachableError
from mlflow_provider.server import limits

T = TypeVar("T")


def run_with_timeout(work: Callable[[], T], seconds: float = limits.OUTSIDE_TASK.timeout) -> T:
    """Return the result of a function, or raise when it takes too long.

    After a timeout the work continues in the background and its result is dropped. Socket timeouts are not
    enough: they limit neither name resolution, nor a response that trickles in, nor several requests.

    :param work: sends requests to MLflow. It must not read an Airflow connection.
    :param seconds: how long it may take.
    :raises MLflowUnreachableError: it took longer.
    :raises Exception: the error of the function.
    """
    result: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            result.append(work())
        except Exception as error:  # noqa: BLE001  # raised below
            errors.append(error)

    # A daemon, unlike an executor's threads: Python does not wait for it at exit.
    thread = threading.Thread(target=copy_context().run, args=(run,), name="mlflow-requests", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not result:
        raise MLflowUnreachableError(f"MLflow did not respond within {seconds:g} seconds.")
    return result[0]
