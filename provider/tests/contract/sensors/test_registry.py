"""The sensor, against a real server: poking, and continuing after the trigger found a version."""

from __future__ import annotations

import socket

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from mlflow_provider.exceptions import MLflowAPIError, MLflowProviderError, MLflowUnreachableError
from mlflow_provider.sensors.registry import MLflowModelVersionSensor
from mlflow_provider.triggers.registry import MLflowModelVersionTrigger
from mlflow_servers import Answer

MODEL = Answer(
    body='{"registered_model": {"name": "n", "creation_timestamp": 1, "latest_versions": [{"version": "1"}]}}'
)


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
def test_an_existing_version_is_returned(execute, model, xcoms, arguments, version, deferrable):
    result = execute(MLflowModelVersionSensor, name=model.name, deferrable=deferrable, **arguments)

    assert result["model_version"]["version"] == version
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
def test_the_sensor_waits_for_a_missing_or_another_version(model, arguments):
    assert not sensor(model.name, **arguments).poke({})


def test_the_sensor_waits_for_a_missing_model(mlflow_default, name):
    assert not sensor(name).poke({})


def test_a_deferrable_sensor_waits_in_the_triggerer(model):
    waiting = sensor(model.name, alias="champion", after_version=1, deferrable=True)

    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})

    expected = MLflowModelVersionTrigger(model.name, "champion", "1", poll_interval=0.05)
    assert deferred.value.trigger.serialize() == expected.serialize()
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout.total_seconds() == 30


def test_the_version_that_the_trigger_found_is_returned(execute, model, xcoms, monkeypatch):
    monkeypatch.setattr(
        MLflowModelVersionSensor,
        "execute",
        lambda self, context: self.execute_complete(context, {"version": "2"}),
    )

    assert execute(MLflowModelVersionSensor, name=model.name)["model_version"]["version"] == "2"
    assert xcoms["model_uri"] == f"models:/{model.name}/2"


@pytest.mark.fault(
    "MLflow fails while a sensor waits",
    sees="in the task's log: the error, Retrying",
    green="by itself",
)
@pytest.mark.parametrize("answers", [[], [MODEL]], ids=["first request", "second request"])
def test_a_failing_server_is_polled_again(false_server, airflow_connection, answers):
    server = false_server(*answers, Answer(503, "down"))
    airflow_connection(host=server.url)

    assert not sensor("Housing").poke({})
    assert len(server.requests) == len(answers) + 1, "each poll is a retry"


def test_a_version_that_is_deleted_after_it_was_found_is_waited_for(false_server, airflow_connection):
    missing = Answer(404, '{"error_code": "RESOURCE_DOES_NOT_EXIST"}')
    airflow_connection(host=false_server(MODEL, missing).url)

    assert not sensor("Housing").poke({})


def test_a_request_ends_with_the_timeout_of_the_sensor(airflow_connection):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never responds
        airflow_connection(host="127.0.0.1", port=silent.getsockname()[1])
        waiting = MLflowModelVersionSensor(task_id="wait", name="Housing", timeout=1, deferrable=True)

        with pytest.raises(TaskDeferred):
            waiting.execute({})


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_wrong_login_fails_at_once(false_server, airflow_connection, deferrable):
    airflow_connection(host=false_server(Answer(401, "no")).url, login="ada", password="wrong")

    with pytest.raises(MLflowAPIError, match="correct Login and Password"):
        sensor("Housing", deferrable=deferrable).execute({})


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_certificate_that_is_not_trusted_fails_at_once(
    false_server, airflow_connection, certificate, deferrable
):
    airflow_connection(host=false_server(MODEL, certificate=certificate).url)

    with pytest.raises(MLflowUnreachableError, match="set verify in Extra"):
        sensor("Housing", deferrable=deferrable).execute({})


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"error": "login rejected"}, "login rejected"),
        (None, "Expected a version of 'Housing'"),
        ({"version": ""}, "Expected a version of 'Housing'"),
    ],
)
def test_an_event_without_a_version_is_an_error(event, problem):
    with pytest.raises(MLflowProviderError, match=problem):
        sensor("Housing").execute_complete({}, event)
