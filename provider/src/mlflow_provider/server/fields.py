"""Fields of Airflow connections: look them up, check them, and name the one at fault."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from mlflow_provider.exceptions import MLflowConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Connection

# AWS, GCP and Azure: https://docs.databricks.com/aws/en/workspace/workspace-details
DATABRICKS_DOMAINS = (
    ".cloud.databricks.com",
    ".cloud.databricks.us",
    ".gcp.databricks.com",
    ".azuredatabricks.net",
    ".databricks.azure.us",
    ".databricks.azure.cn",
)

DEFAULT_PORTS = {"http": 80, "https": 443}

MAX_HOST_NAME_LENGTH = 253  # RFC 1035

# `::1`: Airflow passes an IPv6 address without the brackets that a URL needs.
_BARE_IPV6 = re.compile(r"(?<=://)[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F.]*(?=[/?#]|$)")

_TEXT = re.compile(r"[^\0\ud800-\udfff]*")  # what can be passed to a program


def look_up(conn_id: str, get_connection: Callable[[str], Connection], hint: str) -> Connection:
    """Return a connection whose host, login and password are valid text.

    :param hint: what to enter if it does not exist.
    """
    try:
        conn = get_connection(conn_id)
    except AirflowNotFoundException:
        fix = f"create it under Admin > Connections or in AIRFLOW_CONN_{conn_id.upper()}: {hint}"
        raise MLflowConfigurationError(conn_id, "Connection ID", "there is no such connection", fix) from None
    check_text(conn_id, {"Host": conn.host, "Login": conn.login, "Password": conn.password})
    return conn


def check_text(conn_id: str, fields: Mapping[str, Any]) -> None:
    """Check the values of fields that become environment variables."""
    for name, value in fields.items():
        if value is not None and not (isinstance(value, str) and _TEXT.fullmatch(value)):
            problem, fix = "not valid text", "enter text without null characters"
            raise MLflowConfigurationError(conn_id, name, problem, fix)


def server_url(conn: Connection) -> SplitResult:
    """Join host, schema and port, which may repeat each other."""
    invalid = partial(MLflowConfigurationError, conn.conn_id)
    host = (conn.host or "").strip()
    if not host:
        raise invalid("Host", "empty", "enter the address of the server, e.g. http://localhost:5000")
    if conn.schema not in (None, "", "http", "https"):
        raise invalid("Schema", f"{conn.schema!r} is not supported", "enter http or https, or nothing")

    if "://" not in host:
        bare = host.split("/")[0].split(":")[0].lower()
        is_https = conn.conn_type == "https" or bare.endswith(DATABRICKS_DOMAINS)
        scheme = conn.schema or ("https" if is_https else "http")
        host = f"{scheme}://{host}"
    try:
        parts = urlsplit(_BARE_IPV6.sub(r"[\g<0>]", host))
        host_port = parts.port
    except ValueError:
        problem = "not the address of a server"
        raise invalid("Host", problem, "enter, for example, http://localhost:5000") from None
    if parts.scheme not in ("http", "https"):
        raise invalid("Host", f"scheme {parts.scheme!r} is not supported", "enter http or https")
    if conn.schema and conn.schema != parts.scheme:
        problem = f"{conn.schema!r}, but Host has {parts.scheme!r}"
        raise invalid("Schema", problem, "enter only one of them")
    if parts.username or parts.password or "@" in parts.path:  # after one slash instead of two
        raise invalid("Host", "contains a login", "enter Login and Password, which Airflow keeps secret")
    if conn.port and host_port and conn.port != host_port:
        raise invalid("Port", f"{conn.port}, but Host has {host_port}", "enter only one of them")
    # Python 3.10 takes "[[]" for an IPv6 address.
    if not parts.hostname or "[" in parts.hostname or len(parts.hostname) > MAX_HOST_NAME_LENGTH:
        problem = "has no host name, or an invalid one"
        raise invalid("Host", problem, "enter, for example, http://localhost:5000")

    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = conn.port or host_port
    # Airflow 3.3's form requires a port, even the default one.
    address = name if port in (None, 0, DEFAULT_PORTS[parts.scheme]) else f"{name}:{port}"
    # An address pasted from the browser has a query and a fragment, on Databricks also a path.
    path = "" if name.endswith(DATABRICKS_DOMAINS) else parts.path.rstrip("/")
    return SplitResult(parts.scheme, address, path, "", "")


def is_databricks(url: str) -> bool:
    """Return whether an address is that of a Databricks workspace."""
    return (urlsplit(url).hostname or "").endswith(DATABRICKS_DOMAINS)


def extra_object(conn: Connection) -> dict[str, Any]:
    """Return the JSON object in Extra, or an empty one."""
    try:
        extra = json.loads(conn.extra or "{}")
    except (ValueError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        fix = 'enter names and values, as in {"name": "value"}'
        raise MLflowConfigurationError(conn.conn_id, "Extra", "not a JSON object", fix)
    return extra


def verify(conn_id: str, value: Any) -> bool | str:
    """Return the value of an option ``verify``: whether to check TLS certificates, or a CA bundle's path."""
    if not isinstance(value, (bool, str)):  # requests would not verify at all with 0, [] or {}
        problem, fix = f"{value!r} is not supported", "enter true, false or the path of a CA bundle"
        raise MLflowConfigurationError(conn_id, "Extra, verify", problem, fix)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value
