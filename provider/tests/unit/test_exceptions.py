"""An error reaches whoever must act on it: as Airflow's, with its details, across processes."""

from __future__ import annotations

import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from mlflow_provider.exceptions import (
    MLflowAlreadyExistsError,
    MLflowAPIError,
    MLflowConfigurationError,
    MLflowNotFoundError,
    MLflowProviderError,
    MLflowUnreachableError,
    wrap_mlflow_errors,
)
from task_log import exceptions_in_log

ERRORS = [
    MLflowConfigurationError("mlflow_default", "Host", "empty; enter the address of the server."),
    MLflowUnreachableError("MLflow at http://mlflow:5000: nothing listens on that port."),
    MLflowAPIError("runs/get: 500", status_code=500),
    MLflowNotFoundError("runs/get: 404", status_code=404, error_code="RESOURCE_DOES_NOT_EXIST"),
    MLflowAlreadyExistsError("create: 400", status_code=400, error_code="RESOURCE_ALREADY_EXISTS"),
]
each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


@each_error
def test_every_error_is_an_airflow_exception(error):
    assert isinstance(error, AirflowException)


@each_error
def test_every_error_is_the_same_after_it_left_its_process(error):
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@each_error
def test_every_error_is_the_same_after_airflow_serialized_it(error):
    _, args, kwargs = error.serialize()

    copy = type(error)(*args, **kwargs)

    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_an_error_of_the_mlflow_package_is_explained():
    from mlflow import MlflowException

    with (
        pytest.raises(MLflowProviderError, match=r"^Deploying 'housing': no such target$"),
        wrap_mlflow_errors("Deploying 'housing'"),
    ):
        raise MlflowException("no such target")


def test_an_error_of_requests_which_mlflow_uses_is_explained_too():
    from requests import HTTPError

    with (
        pytest.raises(MLflowProviderError, match=r"^Deploying 'housing': 403 Forbidden$"),
        wrap_mlflow_errors("Deploying 'housing'"),
    ):
        raise HTTPError("403 Forbidden")


def test_what_mlflow_raised_is_not_in_the_log_below_the_explanation():
    from mlflow import MlflowException

    with pytest.raises(MLflowProviderError) as raised, wrap_mlflow_errors("Deploying 'housing'"):
        raise MlflowException("no such target")

    assert exceptions_in_log(raised.value) == ["Deploying 'housing': no such target"]


def test_an_error_of_anything_else_stays_what_it_is():
    with pytest.raises(KeyError, match="price"), wrap_mlflow_errors("Deploying 'housing'"):
        raise KeyError("price")
