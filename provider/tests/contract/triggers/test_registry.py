"""Changes in a real registry become events; none is lost or repeated."""

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
UNKNOWN_WORKSPACE = '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Workspace \'team-b\' not found"}'


class Store:
    """A stand-in for Airflow's asset state store, with the cursor of a watch."""

    def __init__(self) -> None:
        self.cursors: dict[str, Any] = {}

    async def aget(self, key: str) -> Any:
        return self.cursors.get(key)

    async def aset(self, key: str, cursor: Any) -> None:
        self.cursors[key] = cursor

    async def first_look(self) -> None:
        while not self.cursors:
            await asyncio.sleep(INTERVAL)

    @property
    def version(self) -> str | None:
        [cursor] = self.cursors.values()
        return cursor["version"]


class Triggerer:
    """Restarts a watch when it has returned, as Airflow's triggerer does."""

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
        """Start the watch for a number of requests, and return the payloads of its events."""
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
        """Lose the state of the process; the state in Airflow is kept."""
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


def test_the_state_at_the_beginning_of_the_watch_is_not_an_event(model, versions, champions):
    assert versions.look(2) == []
    assert champions.look(2) == []


@pytest.mark.parametrize(
    ("watch", "change", "version", "previous_version"),
    [
        pytest.param("versions", lambda model: model.create_version(), "3", "2", id="new version"),
        pytest.param("champions", lambda model: model.set_alias("champion", "2"), "2", "1", id="moved alias"),
    ],
)
def test_a_change_is_one_event(request, model, watch, change, version, previous_version):
    triggerer = request.getfixturevalue(watch)
    triggerer.look()
    change(model)

    assert triggerer.look() == [
        {
            "name": model.name,
            "alias": "champion" if watch == "champions" else None,
            "version": version,
            "versions": [version],
            "previous_version": previous_version,
            "run_id": None,
            "model_uri": f"models:/{model.name}/{version}",
        }
    ]
    assert triggerer.look() == []


def test_several_new_versions_between_two_requests_are_one_event(model, versions):
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


def test_an_alias_may_move_back(model, champions):
    champions.look()
    model.set_alias("champion", "2")
    champions.look()
    model.set_alias("champion", "1")

    assert champions.moves() == [("2", "1")]


def test_of_several_moves_between_two_requests_the_last_is_the_event(model, champions):
    champions.look()
    model.set_alias("champion", "2")
    model.set_alias("champion", model.create_version())

    assert champions.moves() == [("1", "3")]


def test_deleting_and_restoring_an_alias_is_not_an_event(model, champions):
    champions.look()
    model.delete_alias("champion")
    assert champions.look() == []
    model.set_alias("champion", "1")
    assert champions.look() == []
    model.delete_alias("champion")
    model.set_alias("champion", "2")
    assert champions.moves() == [("1", "2")]


def test_a_deleted_version_is_not_an_event(model, versions):
    versions.look()
    model.delete_version(model.create_version())
    assert versions.look() == []
    model.create_version()
    assert versions.moves() == [("2", "4")]


def test_the_watch_waits_for_a_missing_model(registered_model, versions, champions):
    assert versions.look() == champions.look() == []
    registered_model.create()
    assert versions.look() == champions.look() == []
    registered_model.set_alias("champion", registered_model.create_version())

    assert versions.moves() == champions.moves() == [(None, "1")]


def test_a_model_that_is_created_again_counts_as_new(model, versions, champions):
    versions.look()
    champions.look()
    model.delete()
    assert versions.look() == champions.look() == []
    model.create()
    model.set_alias("champion", model.create_version())

    assert versions.moves() == champions.moves() == [(None, "1")]


def test_the_name_of_a_model_may_contain_a_quote(hook, registered_model):
    quoted = type(registered_model)(f"{registered_model.name}'s", hook)
    quoted.create()
    versions = Triggerer(1, quoted.name, None)
    versions.look()
    quoted.create_version()

    assert versions.moves() == [(None, "1")]


def test_changes_while_the_triggerer_is_down_are_reported_once(model, versions, champions):
    versions.look()
    champions.look()
    versions.die()
    model.create_version()
    model.set_alias("champion", model.create_version())

    assert versions.moves() == [("2", "4")]
    assert champions.moves() == [("1", "4")]
    assert versions.look() == champions.look() == []


def test_the_cursor_moves_when_the_watch_is_restarted(model, versions):
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


def test_the_cursor_of_another_triggerer_is_kept(model, champions):
    champions.look()
    model.set_alias("champion", "2")
    champions.look()
    cursors = dict(registry._last_event_cursors)
    champions.die()
    champions.look()
    champions.look()
    model.set_alias("champion", "1")
    champions.look()
    champions.look()
    registry._last_event_cursors.update(cursors)  # the first triggerer runs the watch again

    assert champions.look() == []
    assert champions.store.version == "1"


def test_two_assets_of_one_trigger_have_the_same_cursor(model, versions):
    other = Store()
    watch = versions.start()
    watch.asset_state_store._by_name["other"] = other

    async def first_looks() -> None:
        stream = watch.run()
        pending = asyncio.ensure_future(anext(stream))
        await other.first_look()
        pending.cancel()

    asyncio.run(first_looks())

    assert other.cursors == versions.store.cursors


def test_run_reports_changes_while_it_runs(model, champions):
    async def follow() -> tuple[TriggerEvent, list[TriggerEvent]]:
        stream = champions.start().run()
        event = asyncio.ensure_future(anext(stream))
        await champions.store.first_look()
        await asyncio.to_thread(model.set_alias, "champion", "2")
        return await event, [more async for more in stream]

    event, more = asyncio.run(follow())

    assert event.payload["version"] == "2"
    assert more == []


def test_watches_of_one_model_share_their_requests(model, monkeypatch):
    shared_stream = pytest.importorskip("airflow.triggers.shared_stream", reason="new in Airflow 3.3")
    requests: list[str] = []

    def counted(hook, name):
        requests.append(name)
        return get_registered_model(hook, name)

    get_registered_model = registry.get_registered_model
    monkeypatch.setattr(registry, "get_registered_model", counted)
    triggerers = [Triggerer(1, model.name, None), Triggerer(2, model.name, "champion")]

    async def follow() -> list[TriggerEvent]:
        manager = shared_stream.SharedStreamManager()
        watches = [triggerer.start() for triggerer in triggerers]
        streams = []
        for watch in watches:
            raw = manager.subscribe(trigger_id=watch.trigger_id, trigger=watch, key=watch.shared_stream_key())
            streams.append(watch.filter_shared_stream(raw))
        pending = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await asyncio.gather(*(triggerer.store.first_look() for triggerer in triggerers))
        assert len(manager._groups) == 1
        await asyncio.to_thread(model.set_alias, "champion", await asyncio.to_thread(model.create_version))
        events = await asyncio.gather(*pending)
        await manager.stop_all()
        return events

    version, alias = asyncio.run(follow())

    assert (version.payload["alias"], version.payload["version"]) == (None, "3")
    assert (alias.payload["alias"], alias.payload["version"]) == ("champion", "3")
    assert set(requests) == {model.name}


@pytest.mark.fault(
    "MLflow fails, or the login is wrong, while an asset is watched",
    sees="in the triggerer's log, once: the error, Retrying",
    green="by itself, when it is corrected",
)
@pytest.mark.parametrize(
    ("refused", "problem"),
    [
        (Answer(401, "no"), "login rejected; correct Login and Password"),
        (Answer(404, UNKNOWN_WORKSPACE), "Extra, workspace: Workspace 'team-b' not found"),
    ],
    ids=["login", "workspace"],
)
def test_a_watch_survives_a_failing_server_and_a_wrong_connection(
    false_server, airflow_connection, champions, caplog, refused, problem
):
    body = '{"registered_model": {"name": "n", "creation_timestamp": 1, "aliases": []}}'
    down, model = Answer(503, "down"), Answer(200, body)
    server = false_server(down, down, refused, refused, model)
    airflow_connection(host=server.url, login="ada", password="wrong", extra={"workspace": "team-b"})

    with caplog.at_level(logging.INFO, logger=registry.__name__):
        assert champions.look() == []

    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in lines] == ["WARNING", "ERROR", "INFO"]  # once each, not for every request
    assert "503" in lines[0][1]
    assert problem in lines[1][1]
    assert lines[2][1] == "MLflow responds again (connection 'mlflow_default')."
    assert len(server.requests) == 5


def test_a_corrected_connection_is_read_again(mlflow_server, airflow_connection, model, champions):
    airflow_connection(host="http://127.0.0.1:1")

    async def first_look() -> None:
        stream = champions.start().run()
        pending = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(INTERVAL)
        airflow_connection(**mlflow_server.connection)
        await champions.store.first_look()
        pending.cancel()

    asyncio.run(first_look())

    assert champions.store.version == "1"


@pytest.mark.parametrize("exists_already", [False, True])
@pytest.mark.parametrize(
    ("alias", "after_version"), [(None, None), (None, "0"), ("champion", None), ("champion", "7")]
)
def test_a_version_ends_the_wait(registered_model, alias, after_version, exists_already):
    def create() -> None:
        registered_model.create()
        version = registered_model.create_version()
        if alias:
            registered_model.set_alias(alias, version)

    async def follow() -> dict[str, Any]:
        if exists_already:
            create()
        trigger = MLflowModelVersionTrigger(
            registered_model.name, alias, after_version, poll_interval=INTERVAL
        )
        event = asyncio.ensure_future(anext(trigger.run()))
        if not exists_already:
            await asyncio.to_thread(create)
        return (await event).payload

    assert asyncio.run(follow()) == {"version": "1"}


def wait_for_error(**arguments: Any) -> str:
    """Run the sensor's trigger to its end, and return the error in its event."""

    async def payloads() -> list[dict[str, Any]]:
        trigger = MLflowModelVersionTrigger("Housing", poll_interval=INTERVAL, **arguments)
        return [event.payload async for event in trigger.run()]

    [payload] = asyncio.run(payloads())
    return payload["error"]


@pytest.mark.parametrize(
    ("refused", "problem"),
    [
        (Answer(401), "authentication required"),
        (Answer(404, UNKNOWN_WORKSPACE), "Extra, workspace: Workspace 'team-b' not found"),
    ],
    ids=["login", "workspace"],
)
def test_the_wait_ends_if_mlflow_rejects_the_request(false_server, airflow_connection, refused, problem):
    airflow_connection(host=false_server(Answer(503), refused).url, extra={"workspace": "team-b"})

    assert problem in wait_for_error()


@pytest.mark.skipif(airflow.__version__.startswith("3.1."), reason="3.1 notices it only in a triggerer")
def test_the_wait_ends_if_the_connection_is_missing():
    error = wait_for_error(mlflow_conn_id="nowhere")

    assert "Connection 'nowhere'" in error
    assert "there is no such connection" in error
