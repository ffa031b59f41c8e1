"""What happens in a real registry becomes events: none is lost, none comes twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import airflow
import pytest

from mlflow_provider.triggers import registry
from mlflow_provider.triggers.registry import MLflowModelVersionTrigger, MLflowRegistryEventTrigger
from mlflow_servers import Answer

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

INTERVAL = 0.05  # seconds


class Store:
    """Stands in for Airflow's asset state store: holds what a watch keeps with its asset."""

    def __init__(self) -> None:
        self.cursors: dict[str, Any] = {}

    async def aget(self, key: str) -> Any:
        return self.cursors.get(key)

    async def aset(self, key: str, cursor: Any) -> None:
        self.cursors[key] = cursor

    @property
    def version(self) -> str | None:
        [cursor] = self.cursors.values()
        return cursor["version"]


class Triggerer:
    """Starts a watch as Airflow's does: anew when it has returned."""

    def __init__(self, trigger_id: int, name: str, alias: str | None) -> None:
        self.trigger_id = trigger_id
        self.arguments = {"name": name, "alias": alias, "poll_interval": INTERVAL}
        self.store = Store()

    def start(self) -> MLflowRegistryEventTrigger:
        watch = MLflowRegistryEventTrigger(**self.arguments)
        watch.trigger_id = self.trigger_id
        watch.asset_state_store = SimpleNamespace(_by_name={"asset": self.store})
        return watch

    def look(self, looks: int = 1) -> list[dict[str, Any]]:
        """Start the watch, let it look that often, and return the payloads of its events."""
        watch = self.start()
        _, kwargs = watch.serialize()

        async def stream() -> AsyncIterator[Any]:
            endless = watch.open_shared_stream(kwargs)
            for _ in range(looks):
                yield await anext(endless)

        async def payloads() -> list[dict[str, Any]]:
            return [event.payload async for event in watch.filter_shared_stream(stream())]

        return asyncio.run(payloads())

    def moves(self) -> list[tuple[str | None, str]]:
        return [(event["previous_version"], event["version"]) for event in self.look()]

    def die(self) -> None:
        """Lose what the process knew; what Airflow stores stays."""
        registry._last_event_cursors.clear()


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    yield
    registry._last_event_cursors.clear()


@pytest.fixture
def versions(registered_model) -> Triggerer:
    return Triggerer(1, registered_model.name, None)


@pytest.fixture
def champions(registered_model) -> Triggerer:
    return Triggerer(2, registered_model.name, "champion")


def test_what_is_there_when_the_watch_begins_is_no_event(model, versions, champions):
    assert versions.look(2) == []
    assert champions.look(2) == []


def test_a_new_version_is_an_event(model, versions):
    versions.look()
    model.create_version()

    assert versions.look() == [
        {
            "name": model.name,
            "alias": None,
            "version": "3",
            "versions": ["3"],
            "previous_version": "2",
            "run_id": None,
            "model_uri": f"models:/{model.name}/3",
        }
    ]
    assert versions.look() == []


def test_several_new_versions_between_two_looks_are_one_event(model, versions):
    versions.look()
    for _ in range(3):
        model.create_version()

    [event] = versions.look()
    assert (event["previous_version"], event["versions"]) == ("2", ["3", "4", "5"])
    assert (event["version"], event["model_uri"]) == ("5", f"models:/{model.name}/5")
    assert versions.look() == []


def test_the_event_of_a_version_names_its_run(hook, registered_model, versions, logged_model):
    registered_model.create()
    versions.look()
    params = {"name": registered_model.name, "source": "s3://bucket/housing", "run_id": logged_model.run_id}
    hook.call("POST", "model-versions/create", params)

    [event] = versions.look()
    assert event["run_id"] == logged_model.run_id


def test_a_moved_alias_is_an_event(model, champions):
    champions.look()
    model.set_alias("champion", "2")

    assert champions.look() == [
        {
            "name": model.name,
            "alias": "champion",
            "version": "2",
            "versions": ["2"],
            "previous_version": "1",
            "run_id": None,
            "model_uri": f"models:/{model.name}/2",
        }
    ]
    assert champions.look() == []


def test_an_alias_may_move_back(model, champions):
    champions.look()
    model.set_alias("champion", "2")
    champions.look()
    model.set_alias("champion", "1")

    assert champions.moves() == [("2", "1")]


def test_of_several_moves_between_two_looks_the_last_is_the_event(model, champions):
    champions.look()
    model.set_alias("champion", "2")
    model.set_alias("champion", model.create_version())

    assert champions.moves() == [("1", "3")]


def test_a_deleted_alias_is_no_event_and_neither_is_its_return(model, champions):
    champions.look()
    model.delete_alias("champion")
    assert champions.look() == []
    model.set_alias("champion", "1")
    assert champions.look() == []
    model.delete_alias("champion")
    model.set_alias("champion", "2")
    assert champions.moves() == [("1", "2")]


def test_a_deleted_version_is_no_event(model, versions):
    versions.look()
    model.delete_version(model.create_version())
    assert versions.look() == []
    model.create_version()
    assert versions.moves() == [("2", "4")]


def test_a_missing_model_is_waited_for(registered_model, versions, champions):
    assert versions.look() == champions.look() == []
    registered_model.create()
    assert versions.look() == champions.look() == []
    registered_model.set_alias("champion", registered_model.create_version())

    assert versions.moves() == champions.moves() == [(None, "1")]


def test_a_model_that_is_created_again_is_a_new_one(model, versions, champions):
    versions.look()
    champions.look()
    model.delete()
    assert versions.look() == champions.look() == []
    model.create()
    model.set_alias("champion", model.create_version())

    assert versions.moves() == champions.moves() == [(None, "1")]


def test_a_name_with_a_quote_is_watched(hook, registered_model):
    quoted = type(registered_model)(f"{registered_model.name}'s", hook)
    quoted.create()
    versions = Triggerer(1, quoted.name, None)
    versions.look()
    quoted.create_version()

    assert versions.moves() == [(None, "1")]


def test_what_happens_while_the_triggerer_is_down_is_announced_once(model, versions, champions):
    versions.look()
    champions.look()
    versions.die()
    model.create_version()
    model.set_alias("champion", model.create_version())

    assert versions.moves() == [("2", "4")]
    assert champions.moves() == [("1", "4")]
    assert versions.look() == champions.look() == []


def test_the_cursor_moves_when_the_watch_is_started_again(model, versions):
    versions.look()
    model.create_version()
    versions.look()
    assert versions.store.version == "2"
    versions.look()
    assert versions.store.version == "3"


def test_an_event_that_airflow_may_not_have_stored_is_repeated(model, champions):
    champions.look()
    model.set_alias("champion", "2")
    [event] = champions.look()
    champions.die()

    assert champions.look() == [event]
    assert champions.look() == []


def test_the_cursor_of_another_triggerer_is_left_alone(model, champions):
    champions.look()
    model.set_alias("champion", "2")
    champions.look()
    kept = dict(registry._last_event_cursors)
    champions.die()
    champions.look()
    champions.look()
    model.set_alias("champion", "1")
    champions.look()
    champions.look()
    registry._last_event_cursors.update(kept)  # the first triggerer has the watch back

    assert champions.look() == []
    assert champions.store.version == "1"


def test_two_assets_of_one_trigger_have_the_same_cursor(model, versions):
    other = Store()
    watch = versions.start()
    watch.asset_state_store._by_name["other"] = other

    async def first_looks() -> None:
        stream = watch.run()
        pending = asyncio.ensure_future(anext(stream))
        while not other.cursors:
            await asyncio.sleep(INTERVAL)
        pending.cancel()

    asyncio.run(first_looks())

    assert other.cursors == versions.store.cursors


def test_run_announces_what_happens_while_it_runs(model, champions):
    async def follow() -> tuple[TriggerEvent, list[TriggerEvent]]:
        stream = champions.start().run()
        event = asyncio.ensure_future(anext(stream))
        while not champions.store.cursors:
            await asyncio.sleep(INTERVAL)
        await asyncio.to_thread(model.set_alias, "champion", "2")
        return await event, [more async for more in stream]

    event, more = asyncio.run(follow())

    assert event.payload["version"] == "2"
    assert more == []


def test_watches_of_one_model_share_their_requests(model, monkeypatch):
    shared_stream = pytest.importorskip("airflow.triggers.shared_stream", reason="Airflow 3.3 has it first")
    requests: list[str] = []

    def counted(hook, name):
        requests.append(name)
        return get_registered_model(hook, name)

    get_registered_model = registry.get_registered_model
    monkeypatch.setattr(registry, "get_registered_model", counted)
    triggerers = [Triggerer(1, model.name, None), Triggerer(2, model.name, "champion")]

    async def events() -> list[TriggerEvent]:
        manager = shared_stream.SharedStreamManager()
        watches = [triggerer.start() for triggerer in triggerers]
        streams = []
        for watch in watches:
            raw = manager.subscribe(trigger_id=watch.trigger_id, trigger=watch, key=watch.shared_stream_key())
            streams.append(watch.filter_shared_stream(raw))
        pending = [asyncio.ensure_future(anext(stream)) for stream in streams]
        while not all(triggerer.store.cursors for triggerer in triggerers):
            await asyncio.sleep(INTERVAL)
        assert len(manager._groups) == 1
        await asyncio.to_thread(model.set_alias, "champion", await asyncio.to_thread(model.create_version))
        found = await asyncio.gather(*pending)
        await manager.stop_all()
        return found

    version, alias = asyncio.run(events())

    assert (version.payload["alias"], version.payload["version"]) == (None, "3")
    assert (alias.payload["alias"], alias.payload["version"]) == ("champion", "3")
    assert set(requests) == {model.name}


@pytest.mark.fault(
    "MLflow fails, or the login is wrong, while an asset is watched",
    sees="in the triggerer's log, once: what is wrong, Retrying",
    green="by itself, when that is put right",
)
def test_a_watch_outlives_a_server_that_fails_and_a_wrong_login(
    false_server, airflow_connection, champions, caplog
):
    body = '{"registered_model": {"name": "n", "creation_timestamp": 1, "aliases": []}}'
    down, refused, model = Answer(503, "down"), Answer(401, "no"), Answer(200, body)
    server = false_server(down, down, refused, refused, model)
    airflow_connection(host=server.url, login="ada", password="wrong")

    with caplog.at_level(logging.INFO, logger=registry.__name__):
        assert champions.look() == []

    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in said] == ["WARNING", "ERROR", "INFO"]  # once each, not at every request
    assert "503" in said[0][1]
    assert "login rejected; correct Login and Password" in said[1][1]
    assert said[2][1] == "MLflow answers again (connection 'mlflow_default')."
    assert len(server.requests) == 5


def test_a_connection_that_is_put_right_is_read_again(mlflow_server, airflow_connection, model, champions):
    airflow_connection(host="http://127.0.0.1:1")

    async def first_look() -> None:
        stream = champions.start().run()
        pending = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(INTERVAL)
        airflow_connection(**mlflow_server.connection)
        while not champions.store.cursors:
            await asyncio.sleep(INTERVAL)
        pending.cancel()

    asyncio.run(first_look())

    assert champions.store.version == "1"


def wait_for(name: str, **arguments: Any) -> dict[str, Any]:
    """Run the sensor's trigger to its end, and return the payload of its event."""

    async def payloads() -> list[dict[str, Any]]:
        trigger = MLflowModelVersionTrigger(name, poll_interval=INTERVAL, **arguments)
        return [event.payload async for event in trigger.run()]

    [payload] = asyncio.run(payloads())
    return payload


@pytest.mark.parametrize(
    ("arguments", "version"),
    [
        ({}, "2"),
        ({"after_version": "1"}, "2"),
        ({"alias": "champion"}, "1"),
        ({"alias": "champion", "after_version": "2"}, "1"),
    ],
)
def test_a_version_that_is_there_ends_the_wait(model, arguments, version):
    assert wait_for(model.name, **arguments) == {"version": version}


@pytest.mark.parametrize(
    ("alias", "after_version"), [(None, None), (None, "0"), ("champion", None), ("champion", "7")]
)
def test_a_version_that_comes_later_ends_the_wait(registered_model, alias, after_version):
    async def follow() -> dict[str, Any]:
        trigger = MLflowModelVersionTrigger(
            registered_model.name, alias, after_version, poll_interval=INTERVAL
        )
        event = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.to_thread(registered_model.create)
        version = await asyncio.to_thread(registered_model.create_version)
        if alias:
            await asyncio.to_thread(registered_model.set_alias, alias, version)
        return (await event).payload

    assert asyncio.run(follow()) == {"version": "1"}


def test_the_wait_ends_when_mlflow_refuses(false_server, airflow_connection):
    airflow_connection(host=false_server(Answer(503), Answer(401)).url)

    assert "authentication required" in wait_for("Housing")["error"]


@pytest.mark.skipif(airflow.__version__.startswith("3.1."), reason="3.1 finds this out only in a triggerer")
def test_the_wait_ends_when_there_is_no_such_connection():
    error = wait_for("Housing", mlflow_conn_id="nowhere")["error"]

    assert "Connection 'nowhere'" in error
    assert "there is no such connection" in error
