"""A time limit for several requests to MLflow together."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TypeVar

from mlflow_provider.server import limits

T = TypeVar("T")

_deadline: ContextVar[float] = ContextVar("mlflow_deadline", default=math.inf)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let the requests of a block time out in these seconds, or earlier if an outer block says so."""
    token = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


def seconds_left() -> float:
    """Return the seconds until the deadline of the block; infinite outside of one."""
    return _deadline.get() - time.monotonic()


def run_with_timeout(
    work: Callable[[], T], seconds: float = limits.OUTSIDE_TASK.timeout, what: str = "MLflow"
) -> T:
    """Return the result of a function, or raise when it takes too long.

    Its request then times out as well, and it can send no others. Nobody waits for that, because a name
    server may take longer.

    :param work: sends requests to MLflow. It must not read an Airflow connection.
    :param seconds: how long it may take.
    :param what: what does not respond if it takes longer.
    :raises MLflowUnreachableError: it took longer.
    :raises Exception: the error of the function.
    """
    result: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            with within(seconds):
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
        from mlflow_provider.exceptions import MLflowUnreachableError  # imports Airflow

        raise MLflowUnreachableError(f"{what} did not respond within {seconds:g} seconds.")
    return result[0]
