"""The triggers' decisions, and what Airflow stores of them."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest
from airflow.sdk import Asset, AssetWatcher, Variable
from airflow.triggers.base import BaseEventTrigger

from mlflow_provider.triggers.cursor import load_cursor, save_cursor
from mlflow_provider.triggers.registry import (
    MLflowModelVersionTrigger,
    MLflowRegistryEventTrigger,
    _Registry,
    new_version,
)

EMPTY = {"name": "Housing", "creation_timestamp": 1}
MODEL = {
    **EMPTY,
    "latest_versions": [{"version": "9"}, {"version": "10"}],
    "aliases": [{"alias": "champion", "version": "9"}],
}


@pytest.mark.parametrize(
    ("model", "alias", "known_version", "version"),
    [
        (EMPTY, None, None, None),
        (EMPTY, "champion", None, None),
        (MODEL, None, None, "10"),
        (MODEL, None, "9", "10"),
        (MODEL, None, "10", None),
        (MODEL, None, "11", None),
        (MODEL, "champion", None, "9"),
        (MODEL, "champion", "9", None),
        (MODEL, "champion", "10", "9"),
        (MODEL, "challenger", None, None),
    ],
)
def test_a_version_is_new_if_it_is_newer_and_an_alias_if_it_moved(model, alias, known_version, version):
    assert new_version(model, alias, known_version) == version


@pytest.mark.parametrize(
    "trigger",
    [
        MLflowRegistryEventTrigger("Housing"),
        MLflowRegistryEventTrigger("Housing", "champion", "mlflow_other", 5.0),
        MLflowModelVersionTrigger("Housing", "champion", "3", "mlflow_other", 5.0),
    ],
)
def test_a_restarted_trigger_has_the_same_arguments(trigger):
    classpath, kwargs = trigger.serialize()

    assert classpath == f"mlflow_provider.triggers.registry.{type(trigger).__name__}"
    assert type(trigger)(**kwargs).serialize() == (classpath, kwargs)


def test_an_asset_accepts_the_watch():
    watcher = AssetWatcher(name="mlflow", trigger=MLflowRegistryEventTrigger("Housing"))

    assert isinstance(Asset("housing", watchers=[watcher]).watchers[0].trigger, BaseEventTrigger)


def test_a_watch_has_a_queue_if_airflow_supports_it():
    watch = MLflowRegistryEventTrigger("Housing", queue="mlflow")

    is_supported = "queue" in inspect.signature(BaseEventTrigger.__init__).parameters
    assert getattr(watch, "queue", None) == ("mlflow" if is_supported else None)
    assert "queue" not in watch.serialize()[1], "Airflow stores it separately"


def test_watches_with_the_same_model_connection_and_interval_share_a_stream():
    key = MLflowRegistryEventTrigger("Housing").shared_stream_key()

    assert key == MLflowRegistryEventTrigger("Housing", "champion").shared_stream_key()
    for other in [
        MLflowRegistryEventTrigger("Cars"),
        MLflowRegistryEventTrigger("Housing", mlflow_conn_id="mlflow_other"),
        MLflowRegistryEventTrigger("Housing", poll_interval=5),
    ]:
        assert other.shared_stream_key() != key


def test_a_server_that_does_not_respond_does_not_block_the_loop(airflow_connection):
    airflow_connection(host="http://127.0.0.1:1")
    released = threading.Event()

    def request(hook) -> bool:
        return released.wait(30)

    async def answer_while_the_loop_runs() -> bool:
        answer = asyncio.ensure_future(_Registry("mlflow_default", 60).fetch(request))
        await asyncio.sleep(0.05)
        released.set()
        return await answer

    assert asyncio.run(answer_while_the_loop_runs())


def test_a_request_is_sent_once_and_has_a_short_timeout(airflow_connection):
    airflow_connection(host="http://127.0.0.1:1", extra={"timeout": 600})

    connection = asyncio.run(_Registry("mlflow_default", 60).fetch(lambda hook: hook.connection))

    assert (connection.timeout, connection.retry_timeout) == (30, 0)


def test_a_watch_without_a_store_keeps_its_cursor_in_a_variable(monkeypatch):
    variables = {}
    monkeypatch.setattr(Variable, "get", lambda key, default, deserialize_json: variables.get(key, default))
    monkeypatch.setattr(
        Variable, "set", lambda key, value, description, serialize_json: variables.update({key: value})
    )
    watch = MLflowRegistryEventTrigger("Housing", "champion")

    async def save_and_load() -> list[object]:
        keys = ["mlflow/mlflow_default/Housing/champion", "mlflow/mlflow_default/" + 256 * "ü"]
        initial = [await load_cursor(watch, key) for key in keys]
        for key in keys:
            await save_cursor(watch, key, {"version": key[-1]})
        return [initial, [await load_cursor(watch, key) for key in keys]]

    assert asyncio.run(save_and_load()) == [[None, None], [{"version": "n"}, {"version": "ü"}]]
    assert all(len(key) <= 250 and key.isascii() for key in variables)
