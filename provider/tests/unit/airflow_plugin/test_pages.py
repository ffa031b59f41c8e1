"""What Airflow's page of MLflow runs shows of a run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from mlflow_provider.airflow_plugin import pages
from mlflow_provider.connection import MLflowConnection

HOOK = SimpleNamespace(
    connection=MLflowConnection("mlflow_default", "http://mlflow:5000", ui_url="http://localhost:5000")
)


def run(name: str = "train", reason: str = "", metrics: int = 0) -> dict:
    return {
        "info": {"experiment_id": "1", "run_id": "abc", "run_name": name, "status": "FINISHED"},
        "data": {
            "tags": [{"key": "airflow.reason", "value": reason}],
            "metrics": [{"key": f"rmse_{number}", "value": 24500.123} for number in range(metrics)],
        },
    }


def test_a_run_leads_to_mlflow():
    assert 'href="http://localhost:5000/#/experiments/1/runs/abc"' in pages._row(HOOK, run())


def test_it_shows_its_first_metrics():
    assert "rmse_0 2.45e+04, rmse_1 2.45e+04" in pages._row(HOOK, run(metrics=2))
    assert "rmse_4" not in pages._row(HOOK, run(metrics=9))


def test_what_comes_from_mlflow_is_no_html():
    row = pages._row(HOOK, run(name="<script>", reason="<b>no sales</b>"))

    assert "<script>" not in row
    assert "&lt;b&gt;no sales" in row


@pytest.fixture
def browser(monkeypatch):
    """A browser of somebody who is logged in."""
    [login] = pages.app.router.dependencies
    monkeypatch.setitem(pages.app.dependency_overrides, login.dependency, lambda: None)
    return TestClient(pages.app, follow_redirects=False)


def test_open_leads_to_the_address_that_a_browser_uses(browser, airflow_connection):
    airflow_connection(host="http://mlflow:5000", extra={"ui_url": "http://localhost:5001"})

    answer = browser.get("/open")

    assert (answer.status_code, answer.headers["location"]) == (307, "http://localhost:5001")


@pytest.mark.parametrize("path", ["/", "/open", "/dags/housing/runs/manual"])
def test_a_connection_that_cannot_be_used_is_shown_with_what_to_do(browser, airflow_connection, path):
    airflow_connection(host="http://mlflow:5000", port=5001)

    answer = browser.get(path)

    assert answer.status_code == 502
    assert "field Port: 5001, but Host says 5000" in answer.text


@pytest.mark.parametrize("path", ["/", "/open", "/dags/housing/runs/manual"])
def test_nobody_sees_a_page_without_a_login(path):
    assert TestClient(pages.app).get(path, follow_redirects=False).status_code == 401
