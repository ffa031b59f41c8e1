"""The experiment operator, against a real server."""

from __future__ import annotations

import pytest

from mlflow_provider.exceptions import MLflowAPIError
from mlflow_provider.operators.experiment import GetOrCreateExperimentOperator


def test_an_experiment_is_created_once_and_its_id_returned(execute, hook, name, xcoms, logged):
    created = execute(GetOrCreateExperimentOperator, name=name, tags={"data": "housing"})
    existing = execute(GetOrCreateExperimentOperator, name=name)

    experiment = hook.call("GET", "experiments/get-by-name", {"experiment_name": name})["experiment"]
    assert created == existing == experiment["experiment_id"]
    assert {"key": "data", "value": "housing"} in experiment["tags"]
    page = f"{hook.base_url}/#/experiments/{created}?workflowType=machine_learning"
    assert xcoms == {"mlflow_experiment_link": page}
    assert f"Experiment '{name}' has ID {created}: {page}" in logged


def test_a_new_experiment_may_have_its_own_artifact_location(execute, hook, name):
    created = execute(GetOrCreateExperimentOperator, name=name, artifact_location="s3://bucket/housing")

    experiment = hook.call("GET", "experiments/get", {"experiment_id": created})["experiment"]
    assert experiment["artifact_location"] == "s3://bucket/housing"


def test_mlflows_rejection_is_an_error(execute):
    with pytest.raises(MLflowAPIError, match="INVALID_PARAMETER_VALUE"):
        execute(GetOrCreateExperimentOperator, name="")
