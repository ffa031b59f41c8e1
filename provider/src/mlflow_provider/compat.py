"""Every difference between the Airflow versions the provider supports."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable
from airflow.sdk._shared.secrets_masker import redact

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTerminated,
        AirflowTaskTimeout,
        TaskDeferred,
    )
except ImportError:  # Airflow 3.1: the exceptions have not moved to the SDK yet
    from airflow.exceptions import (  # type: ignore[no-redef]
        AirflowException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTerminated,
        AirflowTaskTimeout,
        TaskDeferred,
    )

try:
    from airflow.sdk.configuration import conf
except ImportError:  # Airflow 3.1: the configuration has not moved to the SDK yet
    from airflow.configuration import conf

# What a task raises that goes on later, in another process.
PAUSES: tuple[type[BaseException], ...] = (TaskDeferred, AirflowRescheduleException)
try:
    from airflow.sdk.exceptions import TaskAwaitingInput
except ImportError:  # Airflow 3.1 and 3.2: tasks do not wait for people yet
    pass
else:
    PAUSES += (TaskAwaitingInput,)


async def load_cursor(watch: BaseEventTrigger, key: str) -> Any:
    """Return what :func:`save_cursor` kept under a key, or None."""
    if (stores := _asset_stores(watch)) is None:
        return await _in_thread(Variable.get, _variable(key), default=None, deserialize_json=True)
    for store in stores:
        if (cursor := await store.aget(key)) is not None:
            return cursor
    return None


async def save_cursor(watch: BaseEventTrigger, key: str, cursor: Any) -> None:
    """Keep what a trigger that watches for an asset has to know when it is started again.

    :param cursor: a value that JSON can hold, and not None.
    :raises AirflowException: it was not stored.
    """
    if (stores := _asset_stores(watch)) is None:
        await _in_thread(Variable.set, _variable(key), cursor, f"Cursor of {key}", serialize_json=True)
        if await load_cursor(watch, key) != cursor:  # Variable.set logs that it failed, and no more
            raise AirflowException(f"Airflow did not store the cursor of {key}; its log says why.")
        return
    for store in stores:
        await store.aset(key, cursor)


def _asset_stores(watch: BaseEventTrigger) -> list[Any] | None:
    """Return a store for each asset the trigger watches for, None where Airflow has no such store."""
    stores = getattr(watch, "asset_state_store", None)  # Airflow 3.1 and 3.2: a watch does not know its asset
    # Not by its own get and set, which want a single asset: identical watches of two may be one trigger.
    return None if stores is None else list(stores._by_name.values())


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    from asgiref.sync import sync_to_async  # every DAG parse imports this module, few need that one

    return await sync_to_async(function)(*args, **kwargs)


def _variable(key: str) -> str:
    # The names of models are longer than those of variables, and hold other characters.
    return f"mlflow_watch_{hashlib.sha256(key.encode()).hexdigest()[:32]}"


__all__ = [
    "PAUSES",
    "AirflowException",
    "AirflowNotFoundException",
    "AirflowSkipException",
    "AirflowTaskTerminated",
    "AirflowTaskTimeout",
    "conf",
    "load_cursor",
    "redact",
    "save_cursor",
]
