"""A hook is cheap to make, and Airflow finds on it what it looks for."""

from __future__ import annotations

import airflow
import pytest

from mlflow_provider.exceptions import MLflowConfigurationError
from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.hooks.client import MLflowClientHook

each_hook = pytest.mark.parametrize("hook_class", [MLflowBaseHook, MLflowClientHook])


@each_hook
def test_hook_says_which_connection_it_takes(hook_class):
    assert hook_class.conn_name_attr == "mlflow_conn_id"
    assert hook_class.default_conn_name == "mlflow_default"
    assert hook_class.conn_type == "mlflow"
    assert hook_class().mlflow_conn_id == "mlflow_default"
    assert hook_class(mlflow_conn_id="mlflow_prod").mlflow_conn_id == "mlflow_prod"


@each_hook
def test_connection_is_read_when_it_is_first_used(hook_class, airflow_connection):
    hook = hook_class(mlflow_conn_id="mlflow_late")
    airflow_connection("mlflow_late", host="mlflow")

    assert hook.connection.url == "http://mlflow"


@each_hook
def test_a_connection_that_is_wrong_is_named_by_whatever_uses_it(hook_class, airflow_connection):
    hook = hook_class(mlflow_conn_id=airflow_connection("mlflow_wrong"))

    for use in (hook.tracking, hook.get_conn):
        with pytest.raises(MLflowConfigurationError, match="Connection 'mlflow_wrong', field Host"):
            use()


@pytest.mark.skipif(airflow.__version__.startswith("3.1."), reason="3.1 finds this out only inside a task")
@each_hook
def test_a_connection_that_is_missing_is_named(hook_class):
    with pytest.raises(
        MLflowConfigurationError, match=r"'nowhere'.*no such connection.*AIRFLOW_CONN_NOWHERE"
    ):
        hook_class(mlflow_conn_id="nowhere").get_conn()
