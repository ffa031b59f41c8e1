"""Calls written for provider 1.1.0 still work."""

from __future__ import annotations

import pytest
from requests.auth import HTTPDigestAuth

from mlflow_provider.hooks.client import MLflowClientHook, as_tag_list


def test_hook_takes_the_arguments_of_1_1_0_in_their_order():
    hook = MLflowClientHook("get", "mlflow_prod", HTTPDigestAuth)

    assert (hook.method, hook.mlflow_conn_id, hook.auth_type) == ("GET", "mlflow_prod", HTTPDigestAuth)
    assert MLflowClientHook().method == "POST"


def test_auth_type_creates_the_sessions_authentication(airflow_connection):
    airflow_connection(conn_type="http", host="mlflow/", port=5000, login="ada", password="s3cret")
    hook = MLflowClientHook(auth_type=HTTPDigestAuth)

    assert hook.base_url == "http://mlflow:5000"
    assert hook.get_conn().auth == HTTPDigestAuth("ada", "s3cret")


def test_session_is_kept_unless_it_needs_its_own_headers(airflow_connection):
    airflow_connection(host="mlflow")
    hook = MLflowClientHook()

    special = hook.get_conn(headers={"X-Team": "housing"})

    assert hook.get_conn() is hook.get_conn()
    assert special.headers["X-Team"] == "housing"
    assert "X-Team" not in hook.get_conn().headers


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"folds": 5}, [{"key": "folds", "value": "5"}]),
        ([{"key": "folds", "value": 5}], [{"key": "folds", "value": "5"}]),
        (None, None),
        ({}, None),
        ([], None),
    ],
)
def test_tags_may_be_a_mapping_or_mlflows_list_or_missing(tags, expected):
    assert as_tag_list(tags) == expected
