"""Inside a block MLflow uses the connection's server; afterwards the process is restored."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress

import mlflow
import pytest
from mlflow.tracking import fluent

from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.process.environment import environment
from mlflow_provider.process.tracking import tracking
from mlflow_provider.server.connection import MLflowConnection
from mlflow_provider.server.logins.databricks import PersonalAccessToken
from mlflow_provider.server.logins.password import Password, Token

pytestmark = pytest.mark.usefixtures("untouched_mlflow")

# Nothing is sent to any of these.
ADA = MLflowConnection("ada", "http://ada:5000", login=Password("ada", secret="s3cret"))
BOB = MLflowConnection("bob", "http://bob:5000", login=Token(secret="t0ken"))
DATABRICKS = MLflowConnection(
    "dbx",
    "https://dbc.cloud.databricks.com",
    is_databricks=True,
    login=PersonalAccessToken(secret="t0ken"),
)


def state() -> tuple:
    """All of the process that a block may change."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return variables, fluent._active_experiment_id, mlflow.get_tracking_uri(), mlflow.get_registry_uri()


@pytest.fixture(params=["of a new process", "set by variables", "set by calls"])
def before(request, monkeypatch):
    """The state a block begins in."""
    if request.param == "set by variables":
        for name, value in {
            "MLFLOW_TRACKING_URI": "http://worker:5000",
            "MLFLOW_REGISTRY_URI": "http://registry:5000",
            "MLFLOW_TRACKING_USERNAME": "worker",
            "MLFLOW_TRACKING_PASSWORD": "w0rker",
            "MLFLOW_TRACKING_TOKEN": "worker-token",
            "MLFLOW_TRACKING_INSECURE_TLS": "true",
            "MLFLOW_EXPERIMENT_ID": "7",
            "MLFLOW_RUN_ID": "0123456789abcdef",
        }.items():
            monkeypatch.setenv(name, value)
    elif request.param == "set by calls":
        mlflow.set_tracking_uri("http://worker:5000")
        mlflow.set_registry_uri("http://registry:5000")
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # a call wins over the environment
            monkeypatch.setenv(name, "http://elsewhere:5000")
        monkeypatch.setattr(fluent, "_active_experiment_id", "7")
    return state()


@pytest.mark.parametrize(("module", "is_shown"), [("dags.train", True), ("skops.io._utils", False)])
def test_only_skops_does_not_warn_about_names_of_airflow(module, is_shown):
    code = "import warnings; warnings.warn('The `airflow.models.x` is deprecated', DeprecationWarning)"
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with tracking(ADA):
            exec(code, {"__name__": module})

    assert bool(shown) is is_shown


class TestEnvironment:
    def test_sets_and_removes_and_puts_back(self, monkeypatch):
        monkeypatch.setenv("CHANGED", "before")
        monkeypatch.setenv("REMOVED", "before")
        monkeypatch.delenv("ADDED", raising=False)
        baseline = dict(os.environ)

        with environment({"CHANGED": "inside", "REMOVED": None, "ADDED": "inside"}):
            assert os.environ["CHANGED"] == os.environ["ADDED"] == "inside"
            assert "REMOVED" not in os.environ

        assert dict(os.environ) == baseline

    def test_puts_back_what_the_block_itself_changed(self, monkeypatch):
        monkeypatch.setenv("CHANGED", "before")
        baseline = dict(os.environ)

        with suppress(RuntimeError), environment({"CHANGED": "inside", "ADDED": None}):
            os.environ["ADDED"] = "by the block"
            del os.environ["CHANGED"]
            raise RuntimeError

        assert dict(os.environ) == baseline

    def test_puts_back_what_it_has_set_before_an_invalid_value(self):
        baseline = dict(os.environ)

        with pytest.raises(ValueError, match="null"), environment({"ADDED": "inside", "INVALID": "\0"}):
            pass

        assert dict(os.environ) == baseline


class TestTracking:
    def test_uses_the_connections_server_even_if_another_was_set(self, before):
        with tracking(ADA) as client:
            assert mlflow.get_tracking_uri() == client.tracking_uri == ADA.url
            assert mlflow.get_registry_uri() == ADA.url
            assert (
                os.environ.items()
                >= {
                    "MLFLOW_TRACKING_USERNAME": "ada",
                    "MLFLOW_TRACKING_PASSWORD": "s3cret",
                }.items()
            )
            assert "MLFLOW_TRACKING_TOKEN" not in os.environ
            assert "MLFLOW_TRACKING_INSECURE_TLS" not in os.environ

    @pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
    def test_leaves_everything_as_it_was(self, before, error):
        with suppress(RuntimeError, KeyboardInterrupt), tracking(ADA):
            if error:
                raise error

        assert state() == before

    @pytest.mark.parametrize("error", [None, RuntimeError])
    def test_leaves_everything_as_it_was_even_if_the_block_changed_it(self, before, error):
        with suppress(RuntimeError), tracking(ADA):
            mlflow.set_tracking_uri("http://elsewhere:5000")
            mlflow.set_registry_uri("http://elsewhere:5000")
            os.environ["MLFLOW_EXPERIMENT_NAME"] = os.environ["MLFLOW_TRACKING_TOKEN"] = "elsewhere"
            os.environ.pop("MLFLOW_RUN_ID", None)
            if error:
                raise error

        assert state() == before

    def test_blocks_nest(self, before):
        with tracking(ADA):
            outer = state()
            with tracking(BOB):
                assert mlflow.get_tracking_uri() == BOB.url
                assert os.environ["MLFLOW_TRACKING_TOKEN"] == "t0ken"
                assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
            assert state() == outer

        assert state() == before

    def test_reaches_databricks_with_its_token(self, before):
        with tracking(DATABRICKS):
            assert mlflow.get_tracking_uri() == "databricks"
            assert os.environ["DATABRICKS_HOST"] == DATABRICKS.url
            assert os.environ["DATABRICKS_TOKEN"] == "t0ken"

        assert state() == before


def test_the_client_of_a_hook_is_created_for_its_server_and_changes_nothing(before):
    client = MLflowClientHook.for_connection(ADA).client

    assert client.tracking_uri == ADA.url
    assert isinstance(client, mlflow.MlflowClient)
    assert state() == before


def test_a_server_that_is_down_is_one_line_in_the_log(monkeypatch, caplog):
    with tracking(MLflowConnection("down", "http://127.0.0.1:9")) as client:
        for name in ("BACKOFF_FACTOR", "BACKOFF_JITTER"):
            monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "0")
        with suppress(mlflow.MlflowException):
            client.get_run("1")

    [line] = [record.getMessage() for record in caplog.records if record.name == "urllib3.connectionpool"]
    assert line.startswith("MLflow does not respond: nothing listens on that port; ")
