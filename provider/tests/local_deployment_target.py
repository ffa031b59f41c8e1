"""A plugin of MLflow: a deployment target that starts a model server per deployment in this process.

The target URI ``local:<name>`` names a set of deployments.

.. seealso:: https://mlflow.org/docs/latest/ml/plugins/
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import requests
import uvicorn
from mlflow import MlflowException
from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST
from mlflow.pyfunc import load_model, scoring_server

from mlflow_servers import free_port


@dataclass
class Deployment:
    """A model and its server."""

    description: dict[str, Any]
    server: uvicorn.Server
    thread: threading.Thread


_deployments: dict[str, dict[str, Deployment]] = defaultdict(dict)


class LocalDeploymentClient(BaseDeploymentClient):
    """The client that MLflow looks for in a plugin."""

    @property
    def deployments(self) -> dict[str, Deployment]:
        return _deployments[self.target_uri]

    def create_deployment(
        self, name: str, model_uri: str, flavor: Any = None, config: Any = None, endpoint: Any = None
    ) -> dict[str, Any]:
        if name in self.deployments:
            raise MlflowException(f"{name} already exists", error_code=RESOURCE_ALREADY_EXISTS)
        port = free_port()
        app = scoring_server.init(load_model(model_uri))
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            if not thread.is_alive():
                raise MlflowException(f"the model server of {name} did not start")
            time.sleep(0.01)
        url = f"http://127.0.0.1:{port}"
        description = {"name": name, "model_uri": model_uri, "config": config, "url": url}
        self.deployments[name] = Deployment(description, server, thread)
        return dict(description)

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: Any = None,
        config: Any = None,
        endpoint: Any = None,
    ) -> dict[str, Any]:
        before = self.get_deployment(name)
        self.delete_deployment(name)
        return self.create_deployment(name, model_uri or before["model_uri"], config=config)

    def delete_deployment(self, name: str, config: Any = None, endpoint: Any = None) -> None:
        deployment = self.deployments.pop(name)
        deployment.server.should_exit = True
        deployment.thread.join()

    def list_deployments(self, endpoint: Any = None) -> list[dict[str, Any]]:
        return [self.get_deployment(name) for name in self.deployments]

    def get_deployment(self, name: str, endpoint: Any = None) -> dict[str, Any]:
        if name not in self.deployments:
            raise MlflowException(f"there is no {name}", error_code=RESOURCE_DOES_NOT_EXIST)
        return dict(self.deployments[name].description)

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: Any = None
    ) -> PredictionsResponse:
        url = self.get_deployment(str(deployment_name))["url"]
        body = {"dataframe_split": inputs.to_dict(orient="split")} if hasattr(inputs, "to_dict") else inputs
        answer = requests.post(f"{url}/invocations", json=body, timeout=60)
        if not answer.ok:
            raise MlflowException(answer.text)
        return PredictionsResponse.from_json(answer.text)


def run_local(name: str, model_uri: str, flavor: Any = None, config: Any = None) -> None:
    """Required by MLflow."""


def target_help() -> str:
    """Return how to use the target. Required by MLflow."""
    return str(__doc__)
