"""The cursor of an asset watcher: its last event, stored across restarts of the triggerer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk import Variable
from asgiref.sync import sync_to_async

from mlflow_provider.version_compat import asset_state_stores

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger


async def load_cursor(trigger: BaseEventTrigger, key: str) -> Any:
    """Return the cursor that :func:`save_cursor` stored under a key, or None."""
    if (stores := asset_state_stores(trigger)) is None:
        return await sync_to_async(Variable.get)(_variable(key), default=None, deserialize_json=True)
    for store in stores:
        if (cursor := await store.aget(key)) is not None:
            return cursor
    return None


async def save_cursor(trigger: BaseEventTrigger, key: str, cursor: Any) -> None:
    """Store the cursor of a trigger.

    :param cursor: a value that JSON can represent, other than None.
    :raises AirflowException: the cursor was not stored.
    """
    if (stores := asset_state_stores(trigger)) is None:
        set_variable = sync_to_async(Variable.set)
        await set_variable(_variable(key), cursor, f"Cursor of {key}", serialize_json=True)
        if await load_cursor(trigger, key) != cursor:  # Variable.set only logs that it failed
            raise AirflowException(
                f"Airflow did not store the cursor of {key}. See the triggerer's log for the reason."
            )
        return
    for store in stores:
        await store.aset(key, cursor)


def _variable(key: str) -> str:
    # Names of models may be longer than those of Variables, and contain other characters.
    return f"mlflow_watch_{hashlib.sha256(key.encode()).hexdigest()[:32]}"
