"""A hook is cheap to make, and Airflow finds on it what it looks for."""

from __future__ import annotations

import os
from functools import partial

import airflow
import pytest

from mlflow_provider.exceptions import MLflowConfigurationError
from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.hooks.deployment import MLflowDeploymentHook
from mlflow_provider.hooks.pyfunc import MLflowPyfuncHook

to_nowhere = partial(MLflowDeploymentHook, "mlflow_default", "nowhere")
each_hook = pytest.mark.parametrize("hook_class", [MLflowBaseHook, MLflowClientHook, MLflowPyfuncHook])


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


class TestEnvironmentVariablesAsIn110:
    """Hooks built on provider 1.1.0 set and unset them themselves."""

    @pytest.fixture
    def hook(self, airflow_connection):
        return MLflowBaseHook(airflow_connection(host="http://mlflow:5000", login="ada", password="s3cret"))

    def test_are_set_from_the_connection_with_others_beside(self, hook, environ):
        hook._set_env_variables({"AWS_ACCESS_KEY_ID": "AKIA"})

        assert os.environ["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
        assert os.environ["MLFLOW_TRACKING_USERNAME"] == "ada"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "s3cret"
        assert os.environ["AWS_ACCESS_KEY_ID"] == "AKIA"

    def test_come_back_as_they_were_however_often_they_were_set(self, hook, environ):
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "7"
        before = dict(os.environ)

        hook._set_env_variables()
        hook._set_env_variables({"AWS_ACCESS_KEY_ID": "AKIA"})
        hook.unset_env_variables({"AWS_ACCESS_KEY_ID": "AKIA"})

        assert dict(os.environ) == before

    def test_are_removed_also_by_a_hook_that_has_not_set_them(self, hook, environ):
        os.environ |= dict.fromkeys([*hook.mlflow_env_variables, "AWS_ACCESS_KEY_ID"], "set elsewhere")

        hook.unset_env_variables({"AWS_ACCESS_KEY_ID": "whatever"})
        hook.unset_env_variables()

        assert not {*hook.mlflow_env_variables, "AWS_ACCESS_KEY_ID"} & {*os.environ}

    @pytest.fixture
    def environ(self, hook):
        """Puts the process back, whatever the test does to it."""
        before = dict(os.environ)
        yield
        os.environ.clear()
        os.environ.update(before)


class TestDeploymentHook:
    def test_takes_its_arguments_as_in_1_1_0(self):
        hook = MLflowDeploymentHook("mlflow_prod", "sagemaker", "aws_default")

        assert (hook.mlflow_conn_id, hook.target_uri) == ("mlflow_prod", "sagemaker")
        assert hook.target_conn_id == "aws_default"
        assert to_nowhere().target_conn_id is None

    def test_without_a_target_connection_looks_none_up(self):
        assert to_nowhere().aws_conn_dict() == {}

    def test_aws_keys_are_those_of_the_connection(self, airflow_connection):
        extra = '{"aws_session_token": "t0ken"}'
        fields = {"conn_type": "aws", "login": "AKIA", "password": "s3cret", "extra": extra}

        variables = to_nowhere(airflow_connection("aws_of_target", **fields)).aws_conn_dict()

        assert variables["AWS_ACCESS_KEY_ID"] == "AKIA"
        assert variables["AWS_SECRET_ACCESS_KEY"] == "s3cret"
        assert variables["AWS_SESSION_TOKEN"] == "t0ken"

    def test_a_connection_of_another_type_is_no_aws_connection(self, airflow_connection):
        assert to_nowhere(airflow_connection("http_of_target", conn_type="http")).aws_conn_dict() == {}
