"""A deployment target for MLflow, as a plugin of it: a model server per deployment, on this machine.

The target URI ``local:<folder>`` says where the target notes what it has deployed.

.. seealso:: https://mlflow.org/docs/latest/ml/plugins/
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowException
from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST

from tests.servers import free_port

PATIENCE_SECONDS = 180


class LocalDeploymentClient(BaseDeploymentClient):
    """What MLflow finds in the plugin."""

    @property
    def folder(self) -> Path:
        return Path(self.target_uri.removeprefix("local:"))

    def create_deployment(
        self, name: str, model_uri: str, flavor: Any = None, config: Any = None, endpoint: Any = None
    ) -> dict[str, Any]:
        if (self.folder / name).exists():
            raise MlflowException(f"{name} is there already", error_code=RESOURCE_ALREADY_EXISTS)
        address = f"127.0.0.1:{free_port()}"
        host, port = address.split(":")
        serve = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", model_uri]
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [*serve, "--host", host, "--port", port, "--env-manager", "local"],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **os.environ,
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                },  # of uvicorn
            )
        deployment = {"name": name, "model_uri": model_uri, "config": config, "url": f"http://{address}"}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _answers(deployment["url"]):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise MlflowException((self.folder / f"{name}.log").read_text())
            time.sleep(0.2)
        (self.folder / name).write_text(json.dumps({**deployment, "pid": process.pid}))
        return deployment

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
        pid = self.get_deployment(name)["pid"]
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        (self.folder / name).unlink()

    def list_deployments(self, endpoint: Any = None) -> list[dict[str, Any]]:
        return [json.loads(file.read_text()) for file in self.folder.iterdir() if not file.suffix]

    def get_deployment(self, name: str, endpoint: Any = None) -> dict[str, Any]:
        if not (self.folder / name).exists():
            raise MlflowException(f"there is no {name}", error_code=RESOURCE_DOES_NOT_EXIST)
        return json.loads((self.folder / name).read_text())

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: Any = None
    ) -> PredictionsResponse:
        url = self.get_deployment(str(deployment_name))["url"]
        body = {"dataframe_split": inputs.to_dict(orient="split")} if hasattr(inputs, "to_dict") else inputs
        answer = requests.post(f"{url}/invocations", json=body, timeout=60)
        if not answer.ok:
            raise MlflowException(answer.text)
        return PredictionsResponse.from_json(answer.text)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/ping", timeout=5).ok
    except requests.ConnectionError:
        return False


def run_local(name: str, model_uri: str, flavor: Any = None, config: Any = None) -> None:
    """MLflow wants one."""


def target_help() -> str:
    """Return how to use the target; MLflow wants one."""
    return str(__doc__)
