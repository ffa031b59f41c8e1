"""Where a trigger that watches for an asset keeps what it has announced, over restarts of the triggerer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk import Variable

from mlflow_provider.version_compat import asset_state_stores

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger


async def load_cursor(trigger: BaseEventTrigger, key: str) -> Any:
    """Return what :func:`save_cursor` kept under a key, or None."""
    if (stores := asset_state_stores(trigger)) is None:
        return await _in_thread(Variable.get, _variable(key), default=None, deserialize_json=True)
    for store in stores:
        if (cursor := await store.aget(key)) is not None:
            return cursor
    return None


async def save_cursor(trigger: BaseEventTrigger, key: str, cursor: Any) -> None:
    """Keep what a trigger has to know when it is started again.

    :param cursor: a value that JSON can hold, and not None.
    :raises AirflowException: it was not stored.
    """
    if (stores := asset_state_stores(trigger)) is None:
        await _in_thread(Variable.set, _variable(key), cursor, f"Cursor of {key}", serialize_json=True)
        if await load_cursor(trigger, key) != cursor:  # Variable.set only logs that it failed
            raise AirflowException(f"Airflow did not store the cursor of {key}; its log says why.")
        return
    for store in stores:
        await store.aset(key, cursor)


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    from asgiref.sync import sync_to_async  # every DAG parse imports this module, few need that one

    return await sync_to_async(function)(*args, **kwargs)


def _variable(key: str) -> str:
    # The names of models are longer than those of variables, and hold other characters.
    return f"mlflow_watch_{hashlib.sha256(key.encode()).hexdigest()[:32]}"
