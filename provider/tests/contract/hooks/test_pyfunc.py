"""Models as Python functions, from a real server."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.pyfunc import MLflowPyfuncHook

FEATURES = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])  # what conftest.py predicts for


@pytest.fixture
def hook(mlflow_auth_server, airflow_connection):
    """A hook for a server that requires a login."""
    return MLflowPyfuncHook(airflow_connection(**mlflow_auth_server.connection))


@pytest.fixture
def model(hook, log_model, name):
    return log_model(hook.connection, name)


def test_get_conn_is_the_pyfunc_module_with_the_connections_login(hook, model):
    from mlflow.pyfunc import PythonModel

    baseline = dict(os.environ)

    pyfunc = hook.get_conn()
    loaded = pyfunc.load_model(model.uri)
    requirements = pyfunc.get_model_dependencies(model.uri)

    assert isinstance(pyfunc, ModuleType)
    assert pyfunc.PythonModel is PythonModel  # classes are not wrapped
    assert loaded.predict(FEATURES).tolist() == pytest.approx(model.predictions)
    assert "scikit-learn" in Path(requirements).read_text()
    assert dict(os.environ) == baseline


def test_download_model_returns_the_folder_of_a_model_or_names_a_missing_one(hook, model, tmp_path):
    folder = hook.download_model(model.run_uri, tmp_path / "new")

    assert (folder / "MLmodel").exists()
    assert folder.is_relative_to(tmp_path / "new")
    with pytest.raises(MLflowProviderError, match="'mlflow_default', downloading model models:/nowhere/1: "):
        hook.download_model("models:/nowhere/1", tmp_path)


def test_a_hook_built_on_1_1_0_has_the_server_in_the_environment_until_it_unsets_it(hook, model, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://of-the-worker:5000")
    baseline = dict(os.environ)

    class OldHook(MLflowPyfuncHook):
        def get_conn(self):
            self._set_env_variables({"SAGEMAKER_ROLE": "deployer"})
            import mlflow.pyfunc

            return mlflow.pyfunc

    old = OldHook(mlflow_conn_id="mlflow_default")
    loaded = old.get_conn().load_model(model.uri)
    assert os.environ["SAGEMAKER_ROLE"] == "deployer"
    old.unset_env_variables({"SAGEMAKER_ROLE": "deployer"})

    assert loaded.predict(FEATURES).tolist() == pytest.approx(model.predictions)
    assert dict(os.environ) == baseline
