"""Airflow's api-server with the stack's plugins."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests


def get_token(stack):
    return requests.get(f"{stack.airflow_url}/auth/token", timeout=60).json()["access_token"]


def test_concurrent_changes_all_succeed(stack):
    """Without the stack's plugin, the api-server would wait for itself until SQLite times out."""
    token = get_token(stack)
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
    assert {"cloners_plugin", "masked_output", "one_writer_on_sqlite", "same_origin"} <= names


@pytest.mark.parametrize("path", ["/", "/auth/token", "/api/v2/version", "/execution/health", "/mlflow/"])
@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("airflow.example.com", True),  # in .env
        ("rebound.example.com", False),
        ("localhost.example.com", False),
        ("[::2]", False),
    ],
)
def test_only_known_host_names_are_answered(stack, path, host, is_known):
    for port in (f":{stack.clone.airflow_port}", ""):
        url, cookies = f"{stack.airflow_url}{path}", {"_token": get_token(stack)}
        response = requests.get(url, headers={"Host": f"{host}{port}"}, cookies=cookies, timeout=60)
        assert (response.status_code == requests.codes.bad_request) is not is_known
        assert ("Invalid host header" in response.text) is not is_known


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://example.com", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://example.com", "Content-Type": "text/plain"}, 403),
        ({"Origin": "http://localhost:5000", "Sec-Fetch-Site": "same-site"}, 403),  # another port
        ({"Origin": "http://localhost:5000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://airflow.example.com", "Host": "airflow.example.com"}, 201),
        # Through a proxy that changes the host.
        ({"Origin": "https://airflow.example.com", "Sec-Fetch-Site": "same-origin"}, 201),
    ],
    ids=str,
)
def test_only_pages_of_airflow_may_change_something(stack, headers, status):
    url, cookies = f"{stack.airflow_url}/api/v2/variables", {"_token": get_token(stack)}
    body = {"key": f"changed-{uuid.uuid4().hex}", "value": "1"}
    assert requests.post(url, json=body, headers=headers, cookies=cookies, timeout=60).status_code == status


@pytest.mark.parametrize("headers", [{"Host": "rebound.example.com"}, {"Origin": "https://example.com"}])
def test_mlflow_also_rejects_other_hosts_and_web_sites(stack, headers):
    url = f"{stack.mlflow_url}/api/2.0/mlflow/experiments/search"
    response = requests.post(url, json={"max_results": 1}, headers=headers, timeout=60)
    assert response.status_code == requests.codes.forbidden
