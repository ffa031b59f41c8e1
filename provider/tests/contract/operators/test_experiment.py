"""The experiment operator, against a real server."""

from __future__ import annotations

import pytest

from mlflow_provider.exceptions import MLflowAPIError
from mlflow_provider.operators.experiment import GetOrCreateExperimentOperator


def test_returns_the_id_of_the_experiment_that_it_created_or_found(execute, hook, name):
    created = execute(GetOrCreateExperimentOperator, name=name, tags={"data": "housing"})
    found = execute(GetOrCreateExperimentOperator, name=name)

    experiment = hook.call("GET", "experiments/get-by-name", {"experiment_name": name})["experiment"]
    assert created == found == experiment["experiment_id"]
    assert {"key": "data", "value": "housing"} in experiment["tags"]


def test_gives_a_new_experiment_its_artifact_location(execute, hook, name):
    created = execute(GetOrCreateExperimentOperator, name=name, artifact_location="s3://bucket/housing")

    experiment = hook.call("GET", "experiments/get", {"experiment_id": created})["experiment"]
    assert experiment["artifact_location"] == "s3://bucket/housing"


def test_reports_what_mlflow_rejects(execute):
    with pytest.raises(MLflowAPIError, match="INVALID_PARAMETER_VALUE"):
        execute(GetOrCreateExperimentOperator, name="")


def test_has_a_button_to_the_experiment(execute, hook, name, xcoms):
    experiment_id = execute(GetOrCreateExperimentOperator, name=name)

    page = hook.connection.page(f"experiments/{experiment_id}")
    assert xcoms == {"mlflow_experiment_link": page}


def test_logs_where_the_experiment_is(execute, hook, name, logged):
    experiment_id = execute(GetOrCreateExperimentOperator, name=name)

    page = f"{hook.base_url}/#/experiments/{experiment_id}?workflowType=machine_learning"
    assert f"Experiment '{name}' has ID {experiment_id}: {page}" in logged
