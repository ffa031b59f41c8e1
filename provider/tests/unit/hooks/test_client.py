"""Calls that were written for provider 1.1.0 still mean what they meant."""

from __future__ import annotations

import pytest
from requests.auth import HTTPDigestAuth

from mlflow_provider.hooks.client import MLflowClientHook, as_tag_list


def test_hook_takes_the_arguments_of_1_1_0_in_their_order():
    hook = MLflowClientHook("get", "mlflow_prod", HTTPDigestAuth)

    assert (hook.method, hook.mlflow_conn_id, hook.auth_type) == ("GET", "mlflow_prod", HTTPDigestAuth)
    assert MLflowClientHook().method == "POST"


def test_hook_tells_its_servers_address(airflow_connection):
    airflow_connection(conn_type="http", host="mlflow/", schema="http", port=5000)

    assert MLflowClientHook().base_url == "http://mlflow:5000"


def test_auth_type_makes_the_sessions_authentication(airflow_connection):
    airflow_connection(host="mlflow", login="ada", password="s3cret")

    session = MLflowClientHook(auth_type=HTTPDigestAuth).get_conn()

    assert session.auth == HTTPDigestAuth("ada", "s3cret")


def test_session_is_kept_unless_it_is_to_have_headers_of_its_own(airflow_connection):
    airflow_connection(host="mlflow")
    hook = MLflowClientHook()

    special = hook.get_conn(headers={"X-Team": "housing"})

    assert hook.get_conn() is hook.get_conn()
    assert special.headers["X-Team"] == "housing"
    assert "X-Team" not in hook.get_conn().headers


def test_test_connection_tells_what_is_wrong_with_the_connection(airflow_connection):
    airflow_connection(host="")

    works, message = MLflowClientHook().test_connection()

    assert not works
    assert message.startswith("Field Host: empty; enter the address")


@pytest.mark.parametrize(
    "tags",
    [
        {"model_type": "regression", "folds": 5},
        [{"key": "model_type", "value": "regression"}, {"key": "folds", "value": 5}],
    ],
)
def test_tags_may_be_a_mapping_or_mlflows_list(tags):
    assert as_tag_list(tags) == [
        {"key": "model_type", "value": "regression"},
        {"key": "folds", "value": "5"},
    ]


@pytest.mark.parametrize("tags", [None, {}, []])
def test_no_tags_are_not_sent(tags):
    assert as_tag_list(tags) is None
