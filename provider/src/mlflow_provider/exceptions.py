"""The errors this provider raises. Each says what happened, with which connection, and what to do next."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException

from mlflow_provider.server import findings as causes

log = logging.getLogger(__name__)


class MLflowProviderError(AirflowException):
    """Base of all errors of this provider."""

    def __reduce__(self) -> tuple[Any, ...]:  # so that an error may leave the process it was raised in
        _, args, kwargs = self.serialize()
        return partial(type(self), **kwargs), args


class MLflowConfigurationError(MLflowProviderError):
    """The Airflow connection is missing, incomplete or contradictory.

    :param conn_id: the connection at fault.
    :param field: its field at fault, by the name the connection form shows.
    :param problem: what is wrong with the field and what to enter.
    """

    def __init__(self, conn_id: str, field: str, problem: str) -> None:
        super().__init__(causes.FIELD.format(conn_id=conn_id, field=field, problem=problem))
        self.conn_id = conn_id
        self.field = field
        self.problem = problem

    def serialize(self) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        name, _, _ = super().serialize()
        return name, (self.conn_id, self.field, self.problem), {}


class MLflowUnreachableError(MLflowProviderError):
    """The request cannot be sent to the MLflow server, or got no answer after all retries."""


class MLflowAPIError(MLflowProviderError):
    """The server answered, but not with success.

    :param message: what was asked, what the server said, and what to do next.
    :param status_code: HTTP status, e.g. 404.
    :param error_code: MLflow's own code, e.g. ``RESOURCE_DOES_NOT_EXIST``; None when the answer
        did not come from MLflow's API.
    """

    status_code: int  # type: ignore[assignment]  # a proxy may send one that HTTPStatus does not know

    def __init__(self, message: str, *, status_code: int, error_code: str | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.error_code = error_code

    def serialize(self) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        name, args, _ = super().serialize()
        return name, args, {"status_code": self.status_code, "error_code": self.error_code}


class MLflowAlreadyExistsError(MLflowAPIError):
    """``RESOURCE_ALREADY_EXISTS``: something of that name is there."""


class MLflowNotFoundError(MLflowAPIError):
    """``RESOURCE_DOES_NOT_EXIST``: nothing of that name is there."""


@contextmanager
def wrap_mlflow_errors(what: str) -> Iterator[None]:
    """Turn an error of the ``mlflow`` package in a block into one of this provider.

    Its causes are logged at level DEBUG: chained, they would stand in a task's log below the sentence that
    helps.

    :param what: what the block does, with which connection, model or run.
    :raises MLflowProviderError: MLflow raised an error, or ``requests``, which MLflow uses.
    """
    from mlflow import MlflowException
    from requests import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        log.debug("%s", what, exc_info=True)
        raise MLflowProviderError(f"{what}: {with_advice(str(error))}") from None


def with_advice(said: str) -> str:
    """Return what MLflow said, and if that is that something is missing or forbidden, what to do."""
    said = said.strip().removesuffix(".")
    if said.endswith("not found"):
        return f"{said}; correct that, or the connection if it is on another server"
    if said.rstrip("'").endswith("Permission denied"):
        return (
            f"{said}; ask MLflow's administrator for the permission, or enter another login in the connection"
        )
    return said
