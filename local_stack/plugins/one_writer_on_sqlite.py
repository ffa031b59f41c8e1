"""Prevent a deadlock of Airflow's api-server on SQLite.

``airflow.api_fastapi.logging.decorators.action_logging`` writes the audit log from the event loop, with a
session that blocks, and SQLite allows one writer at a time. If another request of the same process holds the
write lock, the loop waits for that request, which cannot commit without the loop: nobody gets a response for
30 seconds, then some requests fail with 500. So this middleware handles changing requests one at a time.

Remove it when Airflow writes the audit log off the event loop: dev/tests/stack/test_api_server.py will tell.
"""

from __future__ import annotations

import asyncio
from typing import Any

from airflow.plugins_manager import AirflowPlugin

# Others wait this long for a request that hangs, for example because its client stopped sending. A heartbeat
# of a task is among them, and Airflow ends tasks without a heartbeat for a minute.
MAX_SECONDS = 10.0


class OneWriter:
    """ASGI middleware that passes on one changing request at a time."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.lock = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        changes = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        # Testing a connection may take long and writes nothing.
        if changes and not scope["path"].endswith("/connections/test"):
            async with self.lock:
                request = asyncio.ensure_future(self.app(scope, receive, send))
                await asyncio.wait({request}, timeout=MAX_SECONDS)
            await request
        else:
            await self.app(scope, receive, send)


class OneWriterPlugin(AirflowPlugin):
    """Add the middleware to the api-server."""

    name = "one_writer_on_sqlite"
    fastapi_root_middlewares = [{"name": "One writer", "middleware": OneWriter, "args": [], "kwargs": {}}]
