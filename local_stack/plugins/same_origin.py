"""Reject what other web sites send to Airflow through a browser, because everybody is an administrator here.

A web site can give its own host name the address 127.0.0.1 (DNS rebinding), or send a request without reading
the response (CSRF). ``[stack] allowed_hosts`` adds names under which a browser reaches this Airflow.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

HOSTS = ("localhost", "127.0.0.1", "[::1]")


class SameOrigin:
    """ASGI middleware that passes on requests to known hosts, and changes only from Airflow's own pages."""

    def __init__(self, app: Any) -> None:
        # Here, because every task imports this file.
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        more = conf.getlist("stack", "allowed_hosts", fallback=[])
        self.app = TrustedHostMiddleware(app, [*HOSTS, *filter(None, more)])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse

        app: Any = self.app
        changes = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and _is_cross_origin(Headers(scope=scope)):
            app = PlainTextResponse("Cross-origin request rejected", 403)
        await app(scope, receive, send)


def _is_cross_origin(headers: Any) -> bool:
    """Return whether a browser sent the request for a page of another host or port."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")  # the only header of older browsers; other clients send neither
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


class SameOriginPlugin(AirflowPlugin):
    """Add the middleware to the api-server."""

    name = "same_origin"
    fastapi_root_middlewares = [{"name": "Same origin", "middleware": SameOrigin, "args": [], "kwargs": {}}]
