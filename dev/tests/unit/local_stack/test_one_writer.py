"""The middleware that lets one request at a time change Airflow's database."""

import asyncio

from local_stack.plugins import one_writer_on_sqlite
from local_stack.plugins.one_writer_on_sqlite import OneWriter


def test_a_request_that_hangs_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr(one_writer_on_sqlite, "MAX_SECONDS", 0.1)
    done = []

    async def app(scope, receive, send):
        if scope["path"] == "/hangs":
            await asyncio.Event().wait()
        done.append(scope["path"])

    async def send_both():
        middleware = OneWriter(app)
        requests = [
            asyncio.ensure_future(middleware({"type": "http", "method": "PUT", "path": path}, None, None))
            for path in ("/hangs", "/heartbeat")
        ]
        await asyncio.wait(requests, timeout=60, return_when=asyncio.FIRST_COMPLETED)

    asyncio.run(send_both())

    assert done == ["/heartbeat"]
