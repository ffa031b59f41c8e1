"""Keeps Airflow's api-server from waiting for itself where its database is SQLite, as in `make up`.

Airflow 3.3 writes its audit log from the event loop, and SQLite has one writer at a time. If another request
of the same process is that writer, the loop waits for it, and it for the loop, which has to end it: nobody
gets an answer for 30 seconds, and then some get a 500. So requests that change something come one by one.
"""

from __future__ import annotations

import asyncio
from typing import Any

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin


class OneWriter:
    """ASGI middleware that passes on one changing request at a time."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.lock = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        changes = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        # The test of a connection may take long, and writes nothing.
        if changes and not scope["path"].endswith("/connections/test"):
            async with self.lock:
                await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class OneWriterPlugin(AirflowPlugin):
    name = "one_writer_on_sqlite"
    fastapi_root_middlewares = (
        [{"name": "One writer", "middleware": OneWriter, "args": [], "kwargs": {}}]
        if conf.get("database", "sql_alchemy_conn").startswith("sqlite")
        else []
    )
