"""Airflow's api-server on SQLite, with the stack's plugin."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import requests


def test_concurrent_changes_all_succeed(stack):
    """Without the stack's plugin, the api-server would wait for itself until SQLite times out."""
    token = requests.get(f"{stack.airflow_url}/auth/token", timeout=60).json()["access_token"]
    names = [f"at-once-{uuid.uuid4().hex}" for _ in range(36)]

    def change(name: str) -> int:
        # Not with the stack's own client, which retries after a 500.
        return requests.post(
            f"{stack.airflow_url}/api/v2/variables",
            json={"key": name, "value": "1"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=120,
        ).status_code

    with ThreadPoolExecutor(12) as pool:
        statuses = set(pool.map(change, names))

    assert statuses == {requests.codes.created}


def test_plugins_of_the_project_are_loaded_beside_those_of_the_stack(stack):
    names = {plugin["name"] for plugin in stack.call("GET", "plugins")["plugins"]}
    assert {"cloners_plugin", "one_writer_on_sqlite"} <= names
