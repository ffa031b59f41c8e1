"""``airflow_settings.yaml``: the connections, variables and pools that Airflow gets when it starts.

The file belongs to the Astro CLI, and its addresses are those of the Docker stack. They are replaced here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from local_stack import mlflow_login
from local_stack.settings import ROOT, LocalError, read_env_file

if TYPE_CHECKING:
    from local_stack.ports import Ports

FILE = ROOT / "airflow_settings.yaml"
FIELDS = ("host", "port", "schema", "login", "password", "extra")
MLFLOW = "mlflow_default"
MLFLOW_VARIABLE = f"AIRFLOW_CONN_{MLFLOW.upper()}"  # in .env, for the user's own MLflow


def read(ports: Ports) -> dict[str, list[dict[str, Any]]]:
    """Return ``connections``, ``variables`` and ``pools`` in the form of Airflow's REST API.

    :raises LocalError: the file is missing or invalid.
    """
    try:
        settings = yaml.safe_load(FILE.read_text("utf-8"))["airflow"]
        connections = [_connection(entry, ports) for entry in _entries(settings, "connections", "conn_id")]
        variables = [
            {"key": entry["variable_name"], "value": entry["variable_value"]}
            for entry in _entries(settings, "variables", "variable_name")
        ]
        pools = [
            {"name": entry["pool_name"], "slots": entry["pool_slot"], "include_deferred": False}
            | {"description": entry.get("pool_description")}
            for entry in _entries(settings, "pools", "pool_name")
        ]
    except FileNotFoundError:
        raise LocalError(f"{FILE.name} is missing. It defines Airflow's connections.") from None
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError) as error:
        message = f"{FILE.name} is not in the format of the Astro CLI: {type(error).__name__}"
        raise LocalError(message, str(error)) from error
    by_id = {each["connection_id"]: each for each in connections if each}
    if mlflow := own_mlflow():
        by_id[MLFLOW] = {"connection_id": MLFLOW, **mlflow}
    return {"connections": list(by_id.values()), "variables": variables, "pools": pools}


def own_mlflow() -> dict[str, Any] | None:
    """Return the connection to the user's own MLflow from ``.env``; None if there is none.

    Airflow reads ``.env`` first, but its pages show only the connections in its database.

    :raises LocalError: it is neither JSON nor a URI.
    """
    value = read_env_file().get(MLFLOW_VARIABLE)
    if not value:
        return None
    try:
        fields = json.loads(value) if value.startswith("{") else _parse(value)
        host = urlsplit(fields["host"])
        port = fields.get("port") or host.port or {"http": 80, "https": 443}.get(host.scheme)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LocalError(f".env: {MLFLOW_VARIABLE} is not a connection.", repr(error)) from None
    extra = fields.get("extra") or None
    return {
        "conn_type": fields.get("conn_type"),
        **{name: fields.get(name) for name in FIELDS},
        "port": port,  # because Airflow's page sends 0 for none, and refuses to test that
        "extra": json.dumps(extra) if isinstance(extra, dict) else extra,
    }


def _entries(settings: dict[str, Any], kind: str, name: str) -> list[dict[str, Any]]:
    """Return the entries that have a name, because the Astro CLI's template has empty ones."""
    return [entry for entry in settings.get(kind) or [] if entry[name]]


def _connection(entry: dict[str, Any], ports: Ports) -> dict[str, Any] | None:
    """Convert a connection; return None if it leads to a container without a counterpart here."""
    fields = {name: entry.get(f"conn_{name}") for name in FIELDS}
    if uri := entry.get("conn_uri"):
        entry = {**entry, **(parts := _parse(uri))}
        fields |= {name: parts[name] for name in FIELDS}
    extra = fields["extra"] or {}
    if isinstance(extra, str):
        extra = json.loads(extra)
    containers: dict[str | None, int | None] = {"mlflow": ports.mlflow, "minio": ports.minio}
    urls = {name: _host_name(value) for name, value in extra.items() if "//" in str(value)}
    host = _host_name(fields["host"])
    if any(name in containers and not containers[name] for name in (host, *urls.values())):
        return None
    extra |= {name: f"http://127.0.0.1:{containers[to]}" for name, to in urls.items() if to in containers}
    if host in containers:
        fields |= {"host": "http://127.0.0.1", "port": containers[host]}
    if host == "mlflow" and fields["login"] in (None, "", mlflow_login.USER):
        fields["login"], fields["password"] = mlflow_login.credentials() or (None, None)
    ids = {"connection_id": entry["conn_id"], "conn_type": entry["conn_type"]}
    # Not {}: Airflow masks the extra in logs, and would warn in every task's log that {} is too short to
    # mask.
    return {**ids, **fields, "extra": json.dumps(extra) if extra else None}


def _parse(uri: str) -> dict[str, Any]:
    """Parse a connection's URI like Airflow's own class, which takes seconds to import.

    .. seealso:: https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html#uri-format
    """
    conn_type, _, rest = uri.partition("://")
    protocol, separator, address = rest.rpartition("://")  # of the host, which may be a URL
    parts = urlsplit(f"//{address}")
    extra = dict(parse_qsl(parts.query, keep_blank_values=True))
    return {
        "conn_type": conn_type.replace("-", "_"),
        "host": protocol + separator + unquote(parts.hostname or ""),
        "port": parts.port,
        "schema": unquote(parts.path.strip("/")),
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "extra": extra.get("__extra__", extra),
    }


def _host_name(address: object) -> str | None:
    """Return ``mlflow`` for ``http://mlflow:5000``, ``mlflow:5000`` and ``mlflow``."""
    text = str(address)
    return urlsplit(text if "//" in text else f"//{text}").hostname
