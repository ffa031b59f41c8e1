"""Errors of an artifact store; contract and fault tests cause real ones."""

from __future__ import annotations

import pytest
from mlflow import MlflowException
from requests import HTTPError

from mlflow_provider.server import findings
from mlflow_provider.server.package_errors import cause_of

URL = "http://mlflow:5000/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/a.txt"
FAILED = "500 Server Error: INTERNAL SERVER ERROR for url"
# Of MLflow 3.18, and of its client at Azure ML.
PRESIGNED_ONLY = "Upgrade your MLflow client to match this server (MLflow 3.18.0) or a newer version"
NO_LOGGED_MODELS = (
    "API request to endpoint /api/2.0/mlflow/logged-models failed with error code 404 != 200. "
    "Response body: ''"
)


@pytest.mark.parametrize(
    ("error", "finding"),
    [
        (
            MlflowException(f"API request to {URL} failed: too many 500 error responses"),
            findings.SERVER_STORE_FAILED,
        ),
        (HTTPError(f"{FAILED}: {URL}."), findings.SERVER_STORE_FAILED),
        (HTTPError(f"{FAILED}: http://mlflow:5000/api/2.0/mlflow/runs/get."), None),
        (MlflowException(f"API request to {URL} failed with exception: Connection refused"), None),
        (
            HTTPError(f"403 Client Error: Forbidden for url: {URL}. Response text: {PRESIGNED_ONLY}"),
            findings.CLIENT_TOO_OLD.format(version="3.18.0"),
        ),
        (
            MlflowException("Failed to upload at least one part of /tmp/a.txt. Errors: {1: 'ProxyError'}"),
            findings.STORE_NOT_REACHED,
        ),
        (MlflowException(NO_LOGGED_MODELS), findings.NO_LOGGED_MODELS),
        (HTTPError("403 Client Error: user not found"), None),
        (ValueError("no sales"), None),
    ],
)
def test_a_failure_of_the_servers_store_is_found_also_below_another_error(error, finding):
    raised = ValueError("training failed")
    raised.__cause__ = error

    assert cause_of(error, "mlflow-artifacts:/1/run/artifacts") == finding
    assert cause_of(raised, "mlflow-artifacts:/1/run/artifacts") == finding
