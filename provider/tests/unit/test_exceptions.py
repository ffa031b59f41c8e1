"""Errors are Airflow's, keep their details across processes, and explain errors of the mlflow package."""

from __future__ import annotations

import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from mlflow import MlflowException
from requests import HTTPError

from mlflow_provider.exceptions import (
    MLflowAlreadyExistsError,
    MLflowAPIError,
    MLflowConfigurationError,
    MLflowNotFoundError,
    MLflowProviderError,
    MLflowUnreachableError,
    wrap_mlflow_errors,
)
from mlflow_provider.server import findings
from task_log import exceptions_in_log

REFUSED = findings.CONNECTION_REFUSED.at("MLflow at http://mlflow:5000")
ERRORS = [
    MLflowConfigurationError("mlflow_default", "Host", "empty", "enter the address of the server"),
    MLflowUnreachableError("MLflow did not respond within 5 seconds."),
    MLflowAPIError("runs/get: 500", status_code=500),
    MLflowNotFoundError("runs/get: 404", status_code=404, error_code="RESOURCE_DOES_NOT_EXIST"),
    MLflowAlreadyExistsError("create: 400", status_code=400, error_code="RESOURCE_ALREADY_EXISTS"),
]
each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


@each_error
def test_every_error_is_airflows_and_the_same_after_serialization(error):
    assert isinstance(error, AirflowException)
    _, args, kwargs = error.serialize()

    for copy in (pickle.loads(pickle.dumps(error)), type(error)(*args, **kwargs)):
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)


def test_an_error_begins_with_its_finding_and_takes_it_to_other_processes():
    error = MLflowUnreachableError(REFUSED)

    assert str(error) == (
        "nothing listens on that port; start the server, or correct Host and Port "
        "(MLflow at http://mlflow:5000)."
    )
    assert pickle.loads(pickle.dumps(error)).finding == error.finding == REFUSED


def test_an_error_of_the_connection_has_a_finding():
    assert ERRORS[0].finding == findings.INVALID_FIELD.format(
        conn_id="mlflow_default", field="Host", problem="empty", fix="enter the address of the server"
    )


@pytest.mark.parametrize("error", [MlflowException("no such target."), HTTPError("no such target")])
def test_an_error_of_mlflow_or_requests_is_explained_and_is_the_only_one_in_the_log(error):
    with pytest.raises(MLflowProviderError) as raised, wrap_mlflow_errors("Deploying 'housing'"):
        raise error

    assert exceptions_in_log(raised.value) == ["Deploying 'housing': no such target."]


def test_other_errors_do_not_change():
    with pytest.raises(KeyError, match="price"), wrap_mlflow_errors("Deploying 'housing'"):
        raise KeyError("price")


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (MLflowUnreachableError("down"), True),
        (MLflowAPIError("busy", status_code=429), True),
        (MLflowAPIError("failing", status_code=503), True),
        (MLflowAPIError("switched off", status_code=500, error_code="FEATURE_DISABLED"), False),
        (MLflowAPIError("refused", status_code=401), False),
        (MLflowAPIError("not MLflow", status_code=404), False),
        (MLflowConfigurationError("mlflow_default", "Host", "empty", "enter one"), False),
    ],
)
def test_transient_errors_are_distinguished_from_permanent_ones(error, transient):
    assert error.is_transient is transient


def test_a_servers_message_is_shown_on_one_line_without_control_characters_and_logins():
    message = "\x1b[31mno\r\nat http://ada:pw@mlflow\u2028\u202e"

    assert str(findings.UNEXPECTED.format(message=message)) == " [31mno  at http://mlflow  "
