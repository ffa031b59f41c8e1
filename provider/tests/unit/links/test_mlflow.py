"""The addresses of the links."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mlflow_provider.links import mlflow as links
from mlflow_provider.server.connection import MLflowConnection

OSS = MLflowConnection("mlflow_default", "http://mlflow:5000", ui_url="http://localhost:5000")
DATABRICKS = MLflowConnection(
    "databricks", "https://dbc.cloud.databricks.com", True, ui_url="https://dbc.cloud.databricks.com"
)


@pytest.fixture
def xcoms():
    return {}


@pytest.fixture
def ti(xcoms):
    task = SimpleNamespace(operator_extra_links=(links.MLflowRunLink(), links.MLflowExperimentLink()))
    return SimpleNamespace(task=task, xcom_push=lambda key, value: xcoms.update({key: value}))


@pytest.mark.parametrize(
    ("connection", "base", "query"),
    [
        (OSS, "http://localhost:5000/#", "?workflowType=machine_learning"),
        (
            replace(OSS, workspace="team a&b"),
            "http://localhost:5000/#",
            "?workflowType=machine_learning&workspace=team%20a%26b",
        ),
        (DATABRICKS, "https://dbc.cloud.databricks.com/ml", ""),
    ],
    ids=["mlflow", "workspace", "databricks"],
)
def test_links_use_the_address_for_browsers(connection, base, query, ti, xcoms):
    links.push_run_links(ti, connection, "1", "abc")
    links.push_model_version_link(ti, connection, "Housing", "3")

    assert xcoms == {
        "mlflow_run_link": f"{base}/experiments/1/runs/abc{query}",
        "mlflow_experiment_link": f"{base}/experiments/1{query}",
        "mlflow_model_version_link": f"{base}/models/Housing/versions/3{query}",
    }


def test_a_model_name_with_special_characters_is_one_segment_of_the_path(ti, xcoms):
    links.push_model_version_link(ti, OSS, "prices/Ames 2011", "1")

    assert "/#/models/prices%2FAmes%202011/versions/1?" in xcoms["mlflow_model_version_link"]


def test_an_id_of_a_hostile_server_does_not_end_the_path(ti, xcoms):
    links.push_run_links(ti, OSS, "1?", "a#b")

    assert xcoms["mlflow_run_link"].startswith("http://localhost:5000/#/experiments/1%3F/runs/a%23b?")


def test_airflow_does_not_push_a_link_again(ti):
    links.push_experiment_link(ti, OSS, "1")

    assert [link.xcom_key for link in ti.task.operator_extra_links] == ["mlflow_run_link"]


def test_the_links_of_an_operator_may_be_a_property(ti, xcoms):
    ti.task = type("Operator", (), {"operator_extra_links": property(lambda self: ())})()

    links.push_experiment_link(ti, OSS, "1")

    assert "/experiments/1" in xcoms["mlflow_experiment_link"]


def test_a_link_is_the_address_that_the_task_pushed(monkeypatch):
    stored = {("a try", "mlflow_model_version_link"): "http://localhost:5000/#/models/Housing/versions/4"}
    monkeypatch.setattr(links.XCom, "get_value", lambda ti_key, key: stored.get((ti_key, key)))

    assert links.MLflowModelVersionLink().get_link(None, ti_key="a try").endswith("/versions/4")
    assert links.MLflowModelVersionLink().get_link(None, ti_key="another") == ""
