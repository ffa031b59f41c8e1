"""A limit for what an exchange with MLflow may take as a whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import Thread
from typing import TypeVar

from mlflow_provider.exceptions import MLflowUnreachableError

T = TypeVar("T")

SECONDS = 5.0


def within(work: Callable[[], T], seconds: float = SECONDS) -> T:
    """Return what a function returns, or raise what it raises; it gets this long.

    :param work: the function. It runs in a thread that is left behind when the time is up.
    :param seconds: how long.
    :raises MLflowUnreachableError: it took longer.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # raised where the result is asked for
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except FutureTimeoutError:
        raise MLflowUnreachableError(f"MLflow did not answer within {seconds:g} seconds.") from None
