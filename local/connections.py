"""``airflow_settings.yaml``: the connections, variables and pools that Airflow gets when it starts.

The file is the Astro CLI's, and names the containers of the Docker stack: their addresses are replaced here.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import yaml

from local.settings import ROOT, LocalError, Ports

FILE = ROOT / "airflow_settings.yaml"


def read(ports: Ports) -> dict[str, list[dict[str, Any]]]:
    """Return ``connections``, ``variables`` and ``pools`` as Airflow's REST API takes them.

    :raises LocalError: the file is missing, or is not what it should be.
    """
    try:
        settings = yaml.safe_load(FILE.read_text())["airflow"]
        connections = [_connection(entry, ports) for entry in _entries(settings, "connections", "conn_id")]
        variables = [
            {"key": entry["variable_name"], "value": entry["variable_value"]}
            for entry in _entries(settings, "variables", "variable_name")
        ]
        pools = [
            {
                "name": entry["pool_name"],
                "slots": entry["pool_slot"],
                "description": entry.get("pool_description"),
                "include_deferred": False,
            }
            for entry in _entries(settings, "pools", "pool_name")
        ]
    except FileNotFoundError:
        raise LocalError(f"{FILE.name} is missing; it says which connections Airflow gets.") from None
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError) as error:
        kind = type(error).__name__
        raise LocalError(f"{FILE.name} is not as the Astro CLI wants it: {kind}", str(error)) from error
    return {"connections": [found for found in connections if found], "variables": variables, "pools": pools}


def _entries(settings: dict[str, Any], kind: str, name: str) -> list[dict[str, Any]]:
    """Return the entries that have a name: the Astro CLI's template starts with empty ones."""
    return [entry for entry in settings.get(kind) or [] if entry[name]]


def _connection(entry: dict[str, Any], ports: Ports) -> dict[str, Any] | None:
    """Convert a connection, or return None when it is to a service that does not run here."""
    host, port, extra = entry.get("conn_host"), entry.get("conn_port"), entry.get("conn_extra") or {}
    if isinstance(extra, str):
        extra = json.loads(extra)
    containers: dict[str | None, int | None] = {"mlflow": ports.mlflow, "minio": ports.minio}
    service = _host_name(host)
    linked = {name: _host_name(value) for name, value in extra.items() if "//" in str(value)}
    if any(name in containers and not containers[name] for name in (service, *linked.values())):
        return None
    extra |= {name: f"http://127.0.0.1:{containers[to]}" for name, to in linked.items() if to in containers}
    if service == "mlflow" and "ui_url" in extra:
        extra["ui_url"] = f"http://localhost:{ports.mlflow}"
    if service in containers:
        host, port = "http://127.0.0.1", containers[service]
    return {
        "connection_id": entry["conn_id"],
        "conn_type": entry["conn_type"],
        "host": host,
        "port": port,
        "schema": entry.get("conn_schema"),
        "login": entry.get("conn_login"),
        "password": entry.get("conn_password"),
        "extra": json.dumps(extra),
    }


def _host_name(address: object) -> str | None:
    """Return ``mlflow`` for ``http://mlflow:5000``, ``mlflow:5000`` and ``mlflow``."""
    text = str(address)
    return urlsplit(text if "//" in text else f"//{text}").hostname
