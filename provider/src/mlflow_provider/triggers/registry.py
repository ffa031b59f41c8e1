"""Triggers for events in the MLflow model registry.

MLflow has no event log, so the triggers poll the registry and compare its answer with the previous one. No
version is missed; of several moves of an alias between two requests, only the last is reported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from http import HTTPStatus
from typing import Any, TypeVar

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from mlflow_provider.exceptions import MLflowNotFoundError, MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.server import limits
from mlflow_provider.triggers.cursor import load_cursor, save_cursor

T = TypeVar("T")

log = logging.getLogger(__name__)
_warn_once = cache(log.warning)

# Maximum seconds between two requests to a server that does not respond, unless poll_interval is longer.
MAX_DELAY = 300.0
# Separate from the event loop's own, because a server that hangs would block the threads of other triggers.
_THREADS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="mlflow-registry")

# By trigger ID: the cursors before and after the last event that this process passed to Airflow.
_last_event_cursors: dict[int | None, tuple[dict[str, Any], dict[str, Any]]] = {}


class MLflowRegistryEventTrigger(BaseEventTrigger):
    """Watch a registered model for an asset: its new versions, or an alias.

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

    The ``extra["payload"]`` of each asset event contains

    - ``name`` of the registered model, and ``alias``, which is None for new versions,
    - ``version``, its ``model_uri``, and its ``run_id`` if it has one,
    - ``previous_version``, which is the version of the previous event, or None,
    - ``versions``, all new versions since the previous event, ending with ``version``.

    A request creates at most one event, because Airflow up to 3.3 starts a DAG run for the first of several
    events that the scheduler finds, and keeps the others for the next run. Choose a ``poll_interval`` that
    gives the scheduler time to start one.

    The state at the beginning of the watch is not an event. The registered model may be created later. Moving
    an alias is an event. Deleting an alias, or setting it to the same version again, is not. A registered
    model that is deleted and created again counts as new.

    Changes while nobody watches, because the triggerer is down or every scheduled DAG is paused, are reported
    when the watch continues. Its cursor is stored with the asset (in Airflow 3.1 and 3.2 in a Variable that
    all watches of the same model and alias share). The cursor is stored after the event, so no event is lost.
    If the triggerer is killed in the second or two between, the event is repeated, with the same payload or a
    newer one.

    If MLflow does not respond, or rejects the request, the request is retried after ``poll_interval``, then
    at growing intervals of up to five minutes. The log reports this once.

    In Airflow 3.3 and later, all watches of a registered model with the same connection and interval share
    their requests.

    :param name: name of the registered model.
    :param alias: the alias to watch. By default new versions are watched.
    :param mlflow_conn_id: connection to the MLflow server.
    :param poll_interval: seconds between two requests.
    :param queue: queue of the triggerers that run the watch. Ignored before Airflow 3.4, which introduced
        queues for asset watchers.

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
        """Yield the registered model, or None while it is missing, at every interval."""
        registry = _Registry(kwargs["mlflow_conn_id"], kwargs["poll_interval"])
        while True:
            yield await registry.fetch(partial(get_registered_model, name=kwargs["name"]))
            await asyncio.sleep(kwargs["poll_interval"])

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[dict[str, Any] | None]
    ) -> AsyncIterator[TriggerEvent]:
        """Yield the first event and return.

        Airflow restarts the trigger after it has stored the event, so the next trigger can move the cursor
        past the event. A trigger that continued could not know when the event is stored.
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
                continue  # deleted since
            yield TriggerEvent(_payload(versions, self.alias, previous))
            after = _cursor(model, versions[-1]["version"], cursor["events"] + 1)
            _last_event_cursors[self.trigger_id] = cursor, after
            return

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch without a shared stream, as in Airflow 3.1 and 3.2."""
        _, kwargs = self.serialize()
        async for event in self.filter_shared_stream(self.open_shared_stream(kwargs)):
            yield event

    @property
    def _key(self) -> str:
        # The name of a model cannot contain a slash.
        return "/".join(filter(None, ("mlflow", self.mlflow_conn_id, self.name, self.alias)))

    async def _resume(self) -> dict[str, Any] | None:
        """Return the cursor of the last event, or None before the first look."""
        cursor = await load_cursor(self, self._key)
        before, after = _last_event_cursors.get(self.trigger_id, (None, None))
        # Only if no other triggerer has moved the cursor since.
        if after and before == cursor:
            await save_cursor(self, self._key, after)
            cursor = after
        _last_event_cursors.pop(self.trigger_id, None)
        return cursor


class MLflowModelVersionTrigger(BaseTrigger):
    """Wait until a registered model has a new version, or an alias points at another version.

    The only event is ``{"version": ...}``, or ``{"error": ...}`` if MLflow rejects the request or the
    connection is wrong. If MLflow does not respond, the request is retried.

    :param name: name of the registered model, which may not exist yet.
    :param alias: the alias to wait for. By default the trigger waits for the newest version.
    :param after_version: the last known version. By default any version ends the wait.
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
    """Send requests to an MLflow server until it responds, without blocking the event loop.

    :param conn_id: connection to the server.
    :param poll_interval: seconds before the first retry. The delay doubles with each failure.
    :param raise_permanent: raise errors that a retry cannot fix. The watch of an asset does not, because
        Airflow would restart it at once; it continues after the connection is corrected.
    """

    def __init__(self, conn_id: str, poll_interval: float, *, raise_permanent: bool = False) -> None:
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.raise_permanent = raise_permanent
        self._hook: MLflowClientHook | None = None

    async def fetch(self, request: Callable[[MLflowClientHook], T]) -> T:
        """Run a request in a thread and return its result.

        :param request: takes the hook.
        :raises MLflowProviderError: a retry cannot fix the error, and ``raise_permanent`` is set.
        """
        # By asgiref, because Airflow 3.1 can look up a connection only from its threads.
        send = sync_to_async(self._send, thread_sensitive=False, executor=_THREADS)
        delay, logged = self.poll_interval, ""
        while True:
            try:
                answer = await send(request)
            except MLflowProviderError as error:  # noqa: PERF203  every request may fail
                if self.raise_permanent and not error.is_transient:
                    raise
                if logged != str(error):
                    logged = str(error)
                    log.log(logging.WARNING if error.is_transient else logging.ERROR, "%s Retrying.", logged)
                self._hook = None  # the connection may be corrected
                await asyncio.sleep(delay)
                delay = min(2 * delay, max(MAX_DELAY, self.poll_interval))
            else:
                if logged:
                    log.info("MLflow responds again (connection %r).", self.conn_id)
                return answer

    def _send(self, request: Callable[[MLflowClientHook], T]) -> T:
        if self._hook is None:
            hook = MLflowClientHook(mlflow_conn_id=self.conn_id)
            self._hook = hook.with_limits(limits.trigger(hook.connection))
        return request(self._hook)


def get_registered_model(hook: MLflowClientHook, name: str) -> dict[str, Any] | None:
    """Return MLflow's description of a registered model, or None if it does not exist."""
    try:
        return hook.call("GET", "registered-models/get", {"name": name})["registered_model"]
    except MLflowNotFoundError as error:
        if error.status_code == HTTPStatus.FORBIDDEN:  # it may also exist
            _warn_once(f"{error} Retrying.")
        return None


def new_version(model: dict[str, Any], alias: str | None, last: str | None) -> str | None:
    """Return the version behind an alias, or the newest version, unless it is the last known one.

    :param model: MLflow's description of a registered model.
    :param alias: the alias; None for the newest version.
    :param last: the last known version, e.g. ``"3"``.
    """
    version = _version(model, alias)
    if version is None or last is None:
        return version
    return version if (version != last if alias else int(version) > int(last)) else None


def _version(model: dict[str, Any], alias: str | None) -> str | None:
    if alias:
        return next((each["version"] for each in model.get("aliases", []) if each["alias"] == alias), None)
    # The newest version of each stage.
    return max((each["version"] for each in model.get("latest_versions", [])), key=int, default=None)


def _get_versions(
    hook: MLflowClientHook, model: dict[str, Any], alias: str | None, previous: str | None
) -> list[dict[str, Any]]:
    """Return the version behind an alias, or all versions after the previous one, oldest first."""
    if alias is None:
        last = int(previous or 0)
        found = hook.search_versions(model["name"], f"version_number > {last}")
        return [version for version in found if int(version["version"]) > last]
    try:
        return [hook.get_model_version(model["name"], str(_version(model, alias)))["model_version"]]
    except MLflowNotFoundError:
        return []


def _cursor(model: dict[str, Any] | None, version: str | None, events: int) -> dict[str, Any]:
    # The creation time and the number of events distinguish cursors with the same version: a registered model
    # that is created again starts with version 1, and an alias may move back.
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
