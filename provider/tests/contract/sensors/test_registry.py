"""The sensor, against a real server: looking itself, and going on when the triggerer has found a version."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from mlflow_provider.exceptions import MLflowAPIError, MLflowProviderError
from mlflow_provider.sensors.registry import MLflowModelVersionSensor
from mlflow_provider.triggers.registry import MLflowModelVersionTrigger
from mlflow_servers import Answer


def sensor(name: str, **arguments) -> MLflowModelVersionSensor:
    return MLflowModelVersionSensor(task_id="wait", name=name, poke_interval=0.05, timeout=30, **arguments)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("arguments", "version"),
    [
        ({}, "2"),
        ({"after_version": 1}, "2"),
        ({"alias": "champion"}, "1"),
        ({"alias": "champion", "after_version": "2"}, "1"),
    ],
)
def test_a_version_that_is_there_is_returned(execute, model, xcoms, arguments, version, deferrable):
    found = execute(MLflowModelVersionSensor, name=model.name, deferrable=deferrable, **arguments)

    assert found["model_version"]["version"] == version
    assert {key: xcoms[key] for key in ("name", "version", "model_uri")} == {
        "name": model.name,
        "version": version,
        "model_uri": f"models:/{model.name}/{version}",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {"after_version": "2"},
        {"alias": "champion", "after_version": "1"},
        {"alias": "challenger"},
    ],
)
def test_a_version_that_is_known_or_missing_is_waited_for(model, arguments):
    assert not sensor(model.name, **arguments).poke({})


def test_a_model_that_is_missing_is_waited_for(mlflow_default, name):
    assert not sensor(name).poke({})


def test_waiting_goes_on_in_the_triggerer(model):
    waiting = sensor(model.name, alias="champion", after_version=1, deferrable=True)

    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})

    expected = MLflowModelVersionTrigger(model.name, "champion", "1", poll_interval=0.05)
    assert deferred.value.trigger.serialize() == expected.serialize()
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout.total_seconds() == 30


def test_the_version_that_the_triggerer_found_is_returned(execute, model, xcoms, monkeypatch):
    monkeypatch.setattr(
        MLflowModelVersionSensor,
        "execute",
        lambda self, context: self.execute_complete(context, {"version": "2"}),
    )

    assert execute(MLflowModelVersionSensor, name=model.name)["model_version"]["version"] == "2"
    assert xcoms["model_uri"] == f"models:/{model.name}/2"


@pytest.mark.fault(
    "MLflow fails while a sensor waits",
    sees="in the task's log: what is wrong, Retrying",
    green="by itself",
)
def test_a_server_that_fails_is_asked_again(false_server, airflow_connection):
    airflow_connection(host=false_server(Answer(503, "down")).url, extra='{"retries": 0}')

    assert not sensor("Housing").poke({})


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_wrong_login_fails_at_once(false_server, airflow_connection, deferrable):
    airflow_connection(host=false_server(Answer(401, "no")).url, login="ada", password="wrong")

    with pytest.raises(MLflowAPIError, match="correct Login and Password"):
        sensor("Housing", deferrable=deferrable).execute({})


def test_what_the_triggerer_says_is_the_error():
    with pytest.raises(MLflowProviderError, match="login rejected"):
        sensor("Housing").execute_complete({}, {"error": "login rejected"})


@pytest.mark.parametrize("event", [None, {}, {"version": ""}])
def test_an_event_without_a_version_is_an_error(event):
    with pytest.raises(MLflowProviderError, match="stopped waiting for 'Housing'"):
        sensor("Housing").execute_complete({}, event)
