"""The errors of this provider: what happened, with which connection, model or run, and what to do next."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args

from airflow.providers.common.compat.sdk import AirflowException

from mlflow_provider.server import findings
from mlflow_provider.server.findings import Finding

log = logging.getLogger(__name__)

# As MLflow's own client: https://github.com/mlflow/mlflow/blob/master/mlflow/utils/request_utils.py
RETRIED_STATUS_CODES = (408, 429, 500, 502, 503, 504)
# MLflow's code, with status 500, for what the server's settings exclude.
FEATURE_DISABLED = "FEATURE_DISABLED"


class MLflowProviderError(AirflowException):
    """Base of all errors of this provider.

    :param message: what happened and what to do next, as text or as a finding.
    """

    finding: Finding | None = None
    is_transient = False  # whether the same request may succeed later: MLflow is down, busy or failing

    def __init__(self, message: str | Finding) -> None:
        super().__init__(f"{message}." if isinstance(message, Finding) else message)
        if isinstance(message, Finding):
            self.finding = message

    def __reduce__(self) -> tuple[Any, ...]:  # for errors that pass to another process
        _, args, kwargs = self.serialize()
        return partial(type(self), **kwargs), args, vars(self)


class MLflowConfigurationError(MLflowProviderError):
    """The Airflow connection is missing, incomplete or contradictory.

    :param conn_id: the connection at fault.
    :param field: its field at fault, by the name in the connection form.
    :param problem: what is wrong with the field.
    :param fix: what to enter.
    """

    def __init__(self, conn_id: str, field: str, problem: str, fix: str) -> None:
        super().__init__(
            findings.INVALID_FIELD.format(conn_id=conn_id, field=field, problem=problem, fix=fix)
        )
        self.conn_id = conn_id
        self.field = field
        self.problem = problem
        self.fix = fix

    def serialize(self) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        name, _, _ = super().serialize()
        return name, (self.conn_id, self.field, self.problem, self.fix), {}


class MLflowUnreachableError(MLflowProviderError):
    """The request cannot be sent to the MLflow server, or got no response after all retries.

    :param is_transient: False if only a change of the connection helps, e.g. for a certificate.
    """

    def __init__(self, message: str | Finding, *, is_transient: bool = True) -> None:
        super().__init__(message)
        self.is_transient = is_transient


class MLflowLoginError(MLflowProviderError):
    """The login method of the connection has no login for a request, e.g. because a token was refused.

    :param is_transient: whether it may have one later: its token address is down, busy or failing.
    """

    def __init__(self, message: str | Finding, *, is_transient: bool = False) -> None:
        super().__init__(message)
        self.is_transient = is_transient


class MLflowAPIError(MLflowProviderError):
    """The server responded, but not with success.

    :param message: the request, the server's message, and what to do next.
    :param status_code: HTTP status, e.g. 404.
    :param error_code: MLflow's own code, e.g. ``RESOURCE_DOES_NOT_EXIST``; None when the response
        did not come from MLflow's API.
    """

    status_code: int  # type: ignore[assignment]  # a proxy may send one that HTTPStatus does not know

    def __init__(self, message: str | Finding, *, status_code: int, error_code: str | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.error_code = error_code
        self.is_transient = status_code in RETRIED_STATUS_CODES and error_code != FEATURE_DISABLED

    def serialize(self) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        name, args, _ = super().serialize()
        return name, args, {"status_code": self.status_code, "error_code": self.error_code}


class MLflowAlreadyExistsError(MLflowAPIError):
    """``RESOURCE_ALREADY_EXISTS``: the name is taken in MLflow."""


class MLflowNotFoundError(MLflowAPIError):
    """``RESOURCE_DOES_NOT_EXIST``: the resource does not exist in MLflow."""


def check_choice(parameter: str, value: str, choices: Any) -> None:
    """Raise a ``ValueError`` unless a value is one of the choices of a ``Literal``."""
    if value not in get_args(choices):
        allowed = " or ".join(map(repr, get_args(choices)))
        raise ValueError(f"{parameter} is {value!r}; choose {allowed}.")


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that it was raised from."""
    yield error
    for origin in dict.fromkeys((error.__cause__, error.__context__)):
        if origin is not None:
            yield from chain(origin)


@contextmanager
def wrap_mlflow_errors(what: str) -> Iterator[None]:
    """Turn an error of the ``mlflow`` package in a block into one of this provider.

    The original error is logged at DEBUG, so that the task log ends with the helpful message.

    :param what: what the block does, with which connection, model or run.
    :raises MLflowProviderError: MLflow, or ``requests`` in MLflow, raised an error.
    """
    from mlflow import MlflowException
    from requests import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        log.debug("%s", what, exc_info=True)
        raise MLflowProviderError(findings.of_message(str(error)).about(what)) from None
