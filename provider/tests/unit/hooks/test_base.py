"""A hook is cheap to create, and has the attributes that Airflow reads."""

from __future__ import annotations

import os

import airflow
import pytest

from mlflow_provider.exceptions import MLflowConfigurationError, MLflowProviderError
from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.hooks.deployment import MLflowDeploymentHook
from mlflow_provider.hooks.pyfunc import MLflowPyfuncHook

each_hook = pytest.mark.parametrize("hook_class", [MLflowBaseHook, MLflowClientHook, MLflowPyfuncHook])


@each_hook
def test_hook_has_airflows_attributes_and_reads_its_connection_when_first_used(
    hook_class, airflow_connection
):
    hook = hook_class(mlflow_conn_id="mlflow_late")
    airflow_connection("mlflow_late", host="mlflow")

    assert (hook.conn_name_attr, hook.conn_type) == ("mlflow_conn_id", "mlflow")
    assert hook_class().mlflow_conn_id == hook_class.default_conn_name == "mlflow_default"
    assert hook.connection.url == "http://mlflow"


@each_hook
def test_a_connection_that_is_wrong_is_named_whenever_it_is_used(hook_class, airflow_connection):
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


def test_a_hook_raises_an_error_if_mlflow_is_switched_off(airflow_connection, monkeypatch):
    airflow_connection(host="mlflow")
    monkeypatch.setenv("AIRFLOW__MLFLOW__ENABLED", "False")
    with pytest.raises(MLflowProviderError, match=r"switched off .*set AIRFLOW__MLFLOW__ENABLED=True"):
        MLflowBaseHook().tracking()


class TestEnvironmentVariablesAsIn110:
    """Hooks built on provider 1.1.0 set and unset these themselves."""

    @pytest.fixture
    def hook(self, airflow_connection):
        return MLflowBaseHook(airflow_connection(host="http://mlflow:5000", login="ada", password="s3cret"))

    def test_are_set_from_the_connection_with_others(self, hook, environ):
        hook._set_env_variables({"AWS_ACCESS_KEY_ID": "AKIA"})

        login = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "s3cret"}
        others = {"MLFLOW_TRACKING_URI": "http://mlflow:5000", "AWS_ACCESS_KEY_ID": "AKIA"}
        assert os.environ.items() >= (login | others).items()

    def test_are_restored_no_matter_how_often_they_were_set(self, hook, environ):
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "7"
        baseline = dict(os.environ)

        hook._set_env_variables()
        hook._set_env_variables({"AWS_ACCESS_KEY_ID": "AKIA"})
        hook.unset_env_variables({"AWS_ACCESS_KEY_ID": "AKIA"})

        assert dict(os.environ) == baseline

    def test_are_also_removed_by_a_hook_that_did_not_set_them(self, hook, environ):
        os.environ |= dict.fromkeys([*hook.mlflow_env_variables, "AWS_ACCESS_KEY_ID"], "set elsewhere")

        hook.unset_env_variables({"AWS_ACCESS_KEY_ID": "whatever"})
        hook.unset_env_variables()

        assert not {*hook.mlflow_env_variables, "AWS_ACCESS_KEY_ID"} & {*os.environ}

    def test_have_the_keys_of_the_artifact_store_unless_these_need_a_file(self, environ, airflow_connection):
        hook = MLflowBaseHook(airflow_connection(host="mlflow", extra={"artifact_conn_id": "store"}))
        keys = {"conn_type": "aws", "login": "AKIA", "password": "s3cret"}
        airflow_connection("store", **keys)
        hook._set_env_variables()
        assert os.environ["AWS_ACCESS_KEY_ID"] == "AKIA"

        airflow_connection("store", **keys, extra={"role_arn": "arn:aws:iam::1:role/mlflow"})
        with pytest.raises(MLflowConfigurationError, match="temporary file"):
            MLflowBaseHook()._set_env_variables()

    @pytest.fixture
    def environ(self, hook):
        """Restores the environment of the process."""
        baseline = dict(os.environ)
        yield
        os.environ.clear()
        os.environ.update(baseline)


class TestDeploymentHook:
    def test_takes_the_arguments_of_1_1_0(self):
        hook = MLflowDeploymentHook("mlflow_prod", "sagemaker", "aws_default")

        assert (hook.mlflow_conn_id, hook.target_uri) == ("mlflow_prod", "sagemaker")
        assert hook.target_conn_id == "aws_default"

    @pytest.mark.parametrize(
        ("fields", "variables"),
        [
            (None, {}),
            ({"conn_type": "http"}, {}),
            (
                {"conn_type": "aws", "login": "AKIA", "password": "s3cret", "extra": {"region_name": "eu"}},
                {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_DEFAULT_REGION": "eu"},
            ),
        ],
    )
    def test_has_keys_and_region_of_an_aws_connection_only(self, airflow_connection, fields, variables):
        target_conn_id = airflow_connection("target", **fields) if fields else None

        result = MLflowDeploymentHook("mlflow_default", "nowhere", target_conn_id).aws_conn_dict()

        assert {name: value for name, value in result.items() if value} == variables
