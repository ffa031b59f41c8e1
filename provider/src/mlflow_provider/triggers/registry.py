"""Triggers for what happens in the MLflow model registry.

MLflow keeps no log of such events. So these triggers ask at intervals and compare the answer with the one
before: of several moves of an alias within an interval only the last is seen, but no version is missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from mlflow_provider.exceptions import (
    MLflowAPIError,
    MLflowNotFoundError,
    MLflowProviderError,
    MLflowUnreachableError,
)
from mlflow_provider.hooks.client import MLflowClientHook, quoted
from mlflow_provider.server import limits
from mlflow_provider.triggers.cursor import load_cursor, save_cursor

T = TypeVar("T")

log = logging.getLogger(__name__)

# Seconds between two requests to a server that does not answer, unless poll_interval is longer.
MAX_DELAY = 300.0
# Not the event loop's own: a server that hangs would block the threads of all other triggers.
_THREADS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="mlflow-registry")

# By trigger ID: the cursor before and after the last event that this process passed to Airflow.
_last_event_cursors: dict[int | None, tuple[dict[str, Any], dict[str, Any]]] = {}


class MLflowRegistryEventTrigger(BaseEventTrigger):
    """Watches a registered model for an asset: for its new versions, or for an alias that moves.

    .. code-block:: python

        champion = Asset(
            "housing_champion",
            watchers=[AssetWatcher(name="mlflow", trigger=MLflowRegistryEventTrigger("Housing", "champion"))],
        )


        @dag(schedule=champion)
        def predict():
            @task
            def read(triggering_asset_events=None):
                for event in triggering_asset_events[champion]:
                    print(event.extra["payload"]["model_uri"])

    Each asset event has as ``extra["payload"]``

    - ``name`` of the registered model, and ``alias``: None for new versions,
    - ``version``, its ``model_uri``, and its ``run_id`` if it has one,
    - ``previous_version``: the one announced before, or None,
    - ``versions``: all new ones, if there are several since the last request; the last is ``version``.

    There is at most one event per request, because Airflow up to 3.3 starts a DAG run with the first of
    several events that its scheduler finds, and keeps the others for the next run. ``poll_interval`` should
    leave the scheduler time to start one.

    What exists when the watch begins is no event; a registered model that is missing may come later. An
    alias that moves is an event; deleting it is none, and neither is setting it again to the version
    announced last. A registered model that is deleted and created again is a new one.

    What happens while nobody watches, because the triggerer is down or every DAG that listens is paused, is
    announced when the watch goes on: what was announced last is kept with the asset (Airflow 3.1 and 3.2:
    in an Airflow Variable, which all watches of the same model and alias share). It is written after Airflow
    has stored an event, so no event is lost. If the triggerer is killed in the second or two between, that
    event is repeated, with the same payload or a newer one.

    If MLflow does not answer, or refuses, the request is retried after ``poll_interval``, then less and
    less often, down to every five minutes; the log says so once.

    Since Airflow 3.3, all watches of a registered model with the same connection and interval share one
    request.

    :param name: name of the registered model.
    :param alias: the alias to watch; without it, new versions are.
    :param mlflow_conn_id: connection to the MLflow server.
    :param poll_interval: seconds between two requests.
    :param queue: the queue of the triggerers that run the watch; Airflow before 3.4 has none for assets, and
        ignores it.

    .. seealso:: https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/event-scheduling.html
    """

    def __init__(
        self,
        name: str,
        alias: str | None = None,
        mlflow_conn_id: str = MLflowClientHook.default_conn_name,
        poll_interval: float = 60.0,
        queue: str | None = None,
    ) -> None:
        super().__init__(queue=queue)
        self.name = name
        self.alias = alias
        self.mlflow_conn_id = mlflow_conn_id
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "name": self.name,
            "alias": self.alias,
            "mlflow_conn_id": self.mlflow_conn_id,
            "poll_interval": self.poll_interval,
        }

    def shared_stream_key(self) -> Hashable:
        return self.mlflow_conn_id, self.name, self.poll_interval

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[dict[str, Any] | None]:
        """Yield the registered model as it is now, None while it is missing, after every interval."""
        registry = _Registry(kwargs["mlflow_conn_id"], kwargs["poll_interval"])
        while True:
            yield await registry.fetch(partial(get_registered_model, name=kwargs["name"]))
            await asyncio.sleep(kwargs["poll_interval"])

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[dict[str, Any] | None]
    ) -> AsyncIterator[TriggerEvent]:
        """Yield the first event, and return.

        Airflow starts the trigger anew, but only after it has stored the event, so the new trigger may move
        the cursor past it. A trigger that went on by itself could not know when the event is stored.
        """
        registry = _Registry(self.mlflow_conn_id, self.poll_interval)
        cursor = await self._resume()
        async for model in shared_stream:
            if cursor is None:
                cursor = _cursor(model, _version(model, self.alias) if model else None, 0)
                await save_cursor(self, self._key, cursor)
            if model is None:
                continue
            previous = cursor["version"] if cursor["created"] == model["creation_timestamp"] else None
            if not new_version(model, self.alias, previous):
                continue
            get_versions = partial(_get_versions, model=model, alias=self.alias, previous=previous)
            if not (versions := await registry.fetch(get_versions)):
                continue  # deleted in the meantime
            yield TriggerEvent(_payload(versions, self.alias, previous))
            after = _cursor(model, versions[-1]["version"], cursor["events"] + 1)
            _last_event_cursors[self.trigger_id] = cursor, after
            return

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch on its own, as Airflow 3.1 and 3.2 do."""
        _, kwargs = self.serialize()
        async for event in self.filter_shared_stream(self.open_shared_stream(kwargs)):
            yield event

    @property
    def _key(self) -> str:
        # No slash can be in the name of a model.
        return "/".join(filter(None, ("mlflow", self.mlflow_conn_id, self.name, self.alias)))

    async def _resume(self) -> dict[str, Any] | None:
        """Return what was announced last: None if nothing ever was."""
        cursor = await load_cursor(self, self._key)
        before, after = _last_event_cursors.get(self.trigger_id, (None, None))
        # Not if another triggerer has watched in the meantime.
        if after and before == cursor:
            await save_cursor(self, self._key, after)
            cursor = after
        _last_event_cursors.pop(self.trigger_id, None)
        return cursor


class MLflowModelVersionTrigger(BaseTrigger):
    """Waits until a registered model has a new version, or an alias of it points at another one.

    Its only event is ``{"version": ...}``, or ``{"error": ...}`` when MLflow refuses or the connection is
    wrong. If MLflow does not answer, the request is retried.

    :param name: name of the registered model, which may not exist yet.
    :param alias: wait for this alias; without it, for the newest version.
    :param after_version: the version that is known already; without it, any will do.
    :param mlflow_conn_id: connection to the MLflow server.
    :param poll_interval: seconds between two requests.
    """

    def __init__(
        self,
        name: str,
        alias: str | None = None,
        after_version: str | None = None,
        mlflow_conn_id: str = MLflowClientHook.default_conn_name,
        poll_interval: float = 60.0,
    ) -> None:
        super().__init__()
        self.name = name
        self.alias = alias
        self.after_version = after_version
        self.mlflow_conn_id = mlflow_conn_id
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "name": self.name,
            "alias": self.alias,
            "after_version": self.after_version,
            "mlflow_conn_id": self.mlflow_conn_id,
            "poll_interval": self.poll_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        registry = _Registry(self.mlflow_conn_id, self.poll_interval, raise_permanent=True)
        get_model = partial(get_registered_model, name=self.name)
        try:
            while True:
                model = await registry.fetch(get_model)
                if model and (version := new_version(model, self.alias, self.after_version)):
                    break
                await asyncio.sleep(self.poll_interval)
        except MLflowProviderError as error:
            yield TriggerEvent({"error": str(error)})
        else:
            yield TriggerEvent({"version": version})


class _Registry:
    """Sends requests to an MLflow server, without blocking the event loop, until there is an answer.

    :param conn_id: connection to the server.
    :param poll_interval: seconds to wait before a request is retried; more after each failure.
    :param raise_permanent: whether to raise errors that retrying will not cure. The watch of an asset does
        not: Airflow would start it again at once, and it goes on when the connection has been corrected.
    """

    def __init__(self, conn_id: str, poll_interval: float, *, raise_permanent: bool = False) -> None:
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.raise_permanent = raise_permanent
        self._hook: MLflowClientHook | None = None

    async def fetch(self, request: Callable[[MLflowClientHook], T]) -> T:
        """Return what a request returns: a function that takes a hook and runs in a thread.

        :raises MLflowProviderError: retrying would not help, and ``raise_permanent`` is set.
        """
        # asgiref's thread, as only from there Airflow 3.1 looks up a connection through the event loop.
        send = sync_to_async(self._send, thread_sensitive=False, executor=_THREADS)
        delay, logged = self.poll_interval, ""
        while True:
            try:
                answer = await send(request)
            except MLflowProviderError as error:  # noqa: PERF203  each request may fail
                transient = is_transient(error)
                if self.raise_permanent and not transient:
                    raise
                if logged != str(error):
                    logged = str(error)
                    log.log(logging.WARNING if transient else logging.ERROR, "%s Retrying.", logged)
                self._hook = None  # the connection may be corrected
                await asyncio.sleep(delay)
                delay = min(2 * delay, max(MAX_DELAY, self.poll_interval))
            else:
                if logged:
                    log.info("MLflow answers again (connection %r).", self.conn_id)
                return answer

    def _send(self, request: Callable[[MLflowClientHook], T]) -> T:
        if self._hook is None:
            hook = MLflowClientHook(mlflow_conn_id=self.conn_id)
            self._hook = hook.with_limits(limits.trigger(hook.connection))
        return request(self._hook)


def is_transient(error: MLflowProviderError) -> bool:
    """Whether the same request may succeed later: MLflow is down, busy or failing."""
    if isinstance(error, MLflowAPIError):
        from mlflow_provider.server.rest import RETRIED_STATUS_CODES

        return error.status_code in RETRIED_STATUS_CODES
    return isinstance(error, MLflowUnreachableError)


def get_registered_model(hook: MLflowClientHook, name: str) -> dict[str, Any] | None:
    """Return a registered model as MLflow describes it, or None if there is none."""
    try:
        return hook.call("GET", "registered-models/get", {"name": name})["registered_model"]
    except MLflowNotFoundError:
        return None


def new_version(model: dict[str, Any], alias: str | None, known: str | None) -> str | None:
    """Return the version an alias points at, or the newest one, unless it is known already.

    :param model: a registered model as MLflow describes it.
    :param alias: the alias; None for the newest version.
    :param known: a version, e.g. ``"3"``.
    """
    version = _version(model, alias)
    if version is None or known is None:
        return version
    return version if (version != known if alias else int(version) > int(known)) else None


def _version(model: dict[str, Any], alias: str | None) -> str | None:
    if alias:
        return next((each["version"] for each in model.get("aliases", []) if each["alias"] == alias), None)
    # One for each stage, so of models without stages: the newest.
    return max((each["version"] for each in model.get("latest_versions", [])), key=int, default=None)


def _get_versions(
    hook: MLflowClientHook, model: dict[str, Any], alias: str | None, previous: str | None
) -> list[dict[str, Any]]:
    """Return the version an alias points at, or all that are newer than the previous one, oldest first."""
    if alias is None:
        newer = f"name = {quoted(model['name'])} and version_number > {previous or 0}"
        return hook.search("model-versions", newer, ["version_number ASC"])
    try:
        return [hook.get_model_version(model["name"], str(_version(model, alias)))["model_version"]]
    except MLflowNotFoundError:
        return []


def _cursor(model: dict[str, Any] | None, version: str | None, events: int) -> dict[str, Any]:
    # A registered model that is created again starts again with version 1, and an alias may move back: the
    # moment and the number of events so far tell such cursors apart.
    return {"created": model and model["creation_timestamp"], "version": version, "events": events}


def _payload(versions: list[dict[str, Any]], alias: str | None, previous: str | None) -> dict[str, Any]:
    newest = versions[-1]
    return {
        "name": newest["name"],
        "alias": alias,
        "version": newest["version"],
        "versions": [each["version"] for each in versions],
        "previous_version": previous,
        "run_id": newest.get("run_id") or None,
        "model_uri": f"models:/{newest['name']}/{newest['version']}",
    }
