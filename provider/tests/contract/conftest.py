"""Fixtures of the contract tests: hooks and operators with a real server, and a model on it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import local_deployment_target
from http_servers import new_certificate
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators.base import MLflowBaseOperator
from mlflow_provider.process.tracking import tracking
from mlflow_provider.server.connection import MLflowConnection
from tries import Try

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer

FEATURES = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])


@pytest.fixture
def mlflow_default(mlflow_server: MLflowServer, airflow_connection: Callable[..., str]) -> str:
    return airflow_connection("mlflow_default", **mlflow_server.connection)


@pytest.fixture
def hook(mlflow_default: str) -> MLflowClientHook:
    return MLflowClientHook()


@pytest.fixture
def name() -> str:
    """A name that does not exist on the server."""
    return f"housing-{uuid.uuid4().hex}"


@pytest.fixture
def xcoms() -> dict[str, Any]:
    """The XComs of the operators, by key."""
    return {}


@pytest.fixture
def execute(mlflow_default: str, xcoms: dict[str, Any]) -> Callable[..., Any]:
    """A function that executes an operator and returns its result as read from XCom."""

    def execute(operator_class: type, a_try: Try | None = None, **arguments: Any) -> Any:
        context = (a_try or Try(uuid.uuid4().hex, xcoms=xcoms)).context
        context["ti"].task = context["task"] = operator_class(task_id="task", **arguments)
        return json.loads(json.dumps(context["task"].execute(context)))

    return execute


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that operators log at level INFO, in any version of Airflow."""
    lines: list[str] = []
    log = SimpleNamespace(info=lambda line, *args: lines.append(line % args), warning=lambda *args: None)
    monkeypatch.setattr(MLflowBaseOperator, "log", log)
    return lines


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    return new_certificate(tmp_path / "server.pem")


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model, and methods to change it."""

    name: str
    hook: MLflowClientHook

    def create(self) -> None:
        self.hook.create_registered_model(self.name)

    def create_version(self) -> str:
        params = {"name": self.name, "source": "s3://bucket/housing"}
        return self.hook.call("POST", "model-versions/create", params)["model_version"]["version"]

    def set_alias(self, alias: str, version: str) -> None:
        params = {"name": self.name, "alias": alias, "version": version}
        self.hook.call("POST", "registered-models/alias", params)

    def delete_alias(self, alias: str) -> None:
        self.hook.call("DELETE", "registered-models/alias", {"name": self.name, "alias": alias})

    def delete_version(self, version: str) -> None:
        self.hook.call("DELETE", "model-versions/delete", {"name": self.name, "version": version})

    def delete(self) -> None:
        self.hook.call("DELETE", "registered-models/delete", {"name": self.name})


@pytest.fixture
def registered_model(hook: MLflowClientHook, name: str) -> RegisteredModel:
    """A registered model that does not exist yet."""
    return RegisteredModel(name, hook)


@pytest.fixture
def model(registered_model: RegisteredModel) -> RegisteredModel:
    """A registered model with two versions, the first of them champion."""
    registered_model.create()
    registered_model.set_alias("champion", registered_model.create_version())
    registered_model.create_version()
    return registered_model


@dataclass(frozen=True)
class LoggedModel:
    """A scikit-learn model that a run logged."""

    experiment_id: str
    run_id: str
    model_id: str
    predictions: list[float]

    @property
    def run_uri(self) -> str:
        return f"runs:/{self.run_id}/model"

    @property
    def uri(self) -> str:
        return f"models:/{self.model_id}"


def _log_model(connection: MLflowConnection, experiment: str) -> LoggedModel:
    """Train a model and log it with two artifacts, as a task would."""
    with tracking(connection):
        import mlflow
        from sklearn.linear_model import LinearRegression

        model = LinearRegression().fit(FEATURES, FEATURES @ [2.0, 3.0] + 1)
        experiment_id = mlflow.set_experiment(experiment).experiment_id
        with mlflow.start_run() as run:
            mlflow.log_metric("rmse", 0.5)
            mlflow.log_dict({"folds": 5}, "plan/folds.json")
            logged = mlflow.sklearn.log_model(
                model, name="model", input_example=FEATURES[:1], pip_requirements=["scikit-learn"]
            )
    return LoggedModel(experiment_id, run.info.run_id, logged.model_id, model.predict(FEATURES).tolist())


def _predict(connection: MLflowConnection, model_uri: str) -> list[float]:
    """Load a model from the server, as another task would, and apply it to ``FEATURES``."""
    with tracking(connection):
        import mlflow

        return mlflow.pyfunc.load_model(model_uri).predict(FEATURES).tolist()


@pytest.fixture
def log_model() -> Callable[[MLflowConnection, str], LoggedModel]:
    return _log_model


@pytest.fixture
def predict() -> Callable[[MLflowConnection, str], list[float]]:
    return _predict


@pytest.fixture(scope="session")
def logged_model(mlflow_server: MLflowServer) -> LoggedModel:
    return _log_model(MLflowConnection("mlflow_default", mlflow_server.url), "Housing, logged once")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a deployment target that MLflow finds by the entry point of an installed package."""
    plugin = local_deployment_target.__name__
    packages = tmp_path_factory.mktemp("packages")
    info = packages / f"{plugin}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {plugin}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mlflow.deployments]\nlocal = {plugin}\n")
    uri = "local:tests"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(packages)
        from mlflow.deployments import get_deploy_client
        from mlflow.deployments.interface import plugin_store

        plugin_store.register_entrypoints()  # which MLflow only does at its import
        yield uri
        client = get_deploy_client(uri)
        for deployment in client.list_deployments():
            client.delete_deployment(deployment["name"])
        del plugin_store.registry["local"]
