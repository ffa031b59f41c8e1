"""What the error of an artifact store means; contract tests and faults see it where it is really raised."""

from __future__ import annotations

import pytest
from mlflow import MlflowException
from requests import HTTPError

from mlflow_provider.server import findings as causes
from mlflow_provider.server.artifact_errors import cause_of

URL = "http://mlflow:5000/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/a.txt"
FAILED = "500 Server Error: INTERNAL SERVER ERROR for url"


@pytest.mark.parametrize(
    "error",
    [
        MlflowException(f"API request to {URL} failed: too many 500 error responses"),
        HTTPError(f"{FAILED}: {URL}."),
    ],
)
def test_a_server_that_fails_at_an_artifact_says_so(error):
    assert cause_of(error, "mlflow-artifacts:/1/run/artifacts") == causes.SERVER_STORE_FAILS


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no sales"),
        HTTPError(f"{FAILED}: http://mlflow:5000/api/2.0/mlflow/runs/get."),
        MlflowException(f"API request to {URL} failed with exception: Connection refused"),
    ],
)
def test_other_errors_are_not_the_stores(error):
    assert cause_of(error, "mlflow-artifacts:/1/run/artifacts") is None


def test_an_error_that_was_raised_because_of_the_stores_is_told_as_that():
    raised = ValueError("training failed")
    raised.__cause__ = HTTPError(f"{FAILED}: {URL}.")

    assert cause_of(raised, "") == causes.SERVER_STORE_FAILS
