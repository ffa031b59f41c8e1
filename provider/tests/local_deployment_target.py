"""A plugin of MLflow: a deployment target whose models predict in this process.

The target URI ``local:<name>`` names a set of deployments.

.. seealso:: https://mlflow.org/docs/latest/ml/plugins/
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlflow import MlflowException
from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST
from mlflow.pyfunc import PyFuncModel, load_model


@dataclass
class Deployment:
    """A model and the description of its deployment."""

    description: dict[str, Any]
    model: PyFuncModel


_deployments: dict[str, dict[str, Deployment]] = defaultdict(dict)


class LocalDeploymentClient(BaseDeploymentClient):
    """The client class that MLflow expects in a plugin."""

    @property
    def deployments(self) -> dict[str, Deployment]:
        return _deployments[self.target_uri]

    def create_deployment(
        self, name: str, model_uri: str, flavor: Any = None, config: Any = None, endpoint: Any = None
    ) -> dict[str, Any]:
        if name in self.deployments:
            raise MlflowException(f"{name} already exists", error_code=RESOURCE_ALREADY_EXISTS)
        description = {"name": name, "model_uri": model_uri, "config": config}
        self.deployments[name] = Deployment(description, load_model(model_uri))
        return dict(description)

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: Any = None,
        config: Any = None,
        endpoint: Any = None,
    ) -> dict[str, Any]:
        previous = self.deployments.pop(name).description
        return self.create_deployment(name, model_uri or previous["model_uri"], config=config)

    def delete_deployment(self, name: str, config: Any = None, endpoint: Any = None) -> None:
        del self.deployments[name]

    def list_deployments(self, endpoint: Any = None) -> list[dict[str, Any]]:
        return [self.get_deployment(name) for name in self.deployments]

    def get_deployment(self, name: str, endpoint: Any = None) -> dict[str, Any]:
        if name not in self.deployments:
            raise MlflowException(f"there is no {name}", error_code=RESOURCE_DOES_NOT_EXIST)
        return dict(self.deployments[name].description)

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: Any = None
    ) -> PredictionsResponse:
        self.get_deployment(str(deployment_name))
        rows = np.array(inputs["inputs"]) if isinstance(inputs, dict) else inputs.to_numpy()
        predictions = self.deployments[str(deployment_name)].model.predict(rows)
        return PredictionsResponse({"predictions": predictions.tolist()})


def run_local(name: str, model_uri: str, flavor: Any = None, config: Any = None) -> None:
    """Required by MLflow."""


def target_help() -> str:
    """Return how to use the target. Required by MLflow."""
    return str(__doc__)
