"""Deployments of MLflow models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from mlflow_provider.exceptions import wrap_mlflow_errors
from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.hooks.wrapping import run_methods_inside
from mlflow_provider.server.artifact_store import ArtifactStore, credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.deployments import BaseDeploymentClient


# Most targets have no error code for a missing deployment. That of SageMaker: Could not find endpoint "x".
_MISSING = re.compile("not found|could not find|not exist", re.IGNORECASE)


class MLflowDeploymentHook(MLflowBaseHook):
    """Deploys models and gets predictions with ``mlflow.deployments``.

    .. code-block:: python

        hook = MLflowDeploymentHook("mlflow_default", "sagemaker:/eu-central-1", target_conn_id="aws_default")
        hook.get_conn().list_deployments()

    :param mlflow_conn_id: connection of type ``mlflow`` (``http`` also works).
    :param target_uri: where to deploy, e.g. ``sagemaker``, ``databricks``, or the target of an MLflow plugin.
    :param target_conn_id: connection to the target. Type ``aws`` provides keys, region and endpoint;
        other types are ignored.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.deployments.html
    """

    hook_name = "MLflow Deployment"

    def __init__(self, mlflow_conn_id: str, target_uri: str, target_conn_id: str | None = None) -> None:
        super().__init__(mlflow_conn_id)
        self.target_uri = target_uri
        self.target_conn_id = target_conn_id

    def aws_conn_dict(self) -> dict[str, str | None]:
        """Return the environment variables of the target, if its connection is of type ``aws``."""
        return dict(self._target_credentials().variables)

    def _target_credentials(self) -> ArtifactStore:
        if not self.target_conn_id or self.get_connection(self.target_conn_id).conn_type != "aws":
            return ArtifactStore()
        target = ArtifactStore.read(self.target_conn_id, self.get_connection)
        variables = dict(target.variables)
        # MLflow's variable is for the artifact store, boto3's for the target.
        if endpoint := variables.pop("MLFLOW_S3_ENDPOINT_URL", None):
            variables["AWS_ENDPOINT_URL"] = endpoint
        return replace(target, variables=variables)

    @contextmanager
    def tracking(self) -> Iterator[MlflowClient]:
        """Work like :meth:`MLflowBaseHook.tracking`, and also set the credentials of the target.

        If both the target and the artifact store use AWS keys, those of the target apply.
        """
        with super().tracking() as client, credentials(self._target_credentials()):
            yield client

    def get_conn(self) -> BaseDeploymentClient:
        """Return MLflow's deployment client, each of whose methods runs inside :meth:`tracking`."""
        with self.tracking(), wrap_mlflow_errors(f"Deployment target {self.target_uri!r}"):
            from mlflow.deployments import get_deploy_client

            return run_methods_inside(self.tracking, get_deploy_client(self.target_uri))

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: dict[str, Any] | None = None,
        endpoint: str | None = None,
        *,
        if_exists: Literal["fail", "skip"] = "fail",
    ) -> dict[str, Any]:
        """Deploy a model.

        :param name: name of the deployment.
        :param model_uri: the model, e.g. ``models:/Housing@champion``.
        :param flavor: the model's flavor to deploy; the target decides by default.
        :param config: settings for the target.
        :param endpoint: endpoint of the deployment, for targets that have endpoints.
        :param if_exists: ``fail``, or ``skip``: return the existing deployment unchanged.
        :return: the target's description of the deployment, with at least its ``name``.
        :raises MLflowProviderError: MLflow or the target returned an error.
        """
        client = self.get_conn()
        if if_exists == "skip":
            from mlflow import MlflowException
            from requests import HTTPError

            with wrap_mlflow_errors(f"Looking for deployment {name!r} at {self.target_uri!r}"):
                try:
                    return client.get_deployment(name=name, endpoint=endpoint)
                except (MlflowException, HTTPError) as error:
                    if not _is_missing(error):
                        raise
        with wrap_mlflow_errors(f"Deploying {model_uri} as {name!r} to {self.target_uri!r}"):
            return client.create_deployment(
                name=name, model_uri=model_uri, flavor=flavor, config=config, endpoint=endpoint
            )

    def predict(self, deployment_name: str | None, inputs: Any, endpoint: str | None = None) -> str:
        """Return predictions of a deployment.

        :param deployment_name: name of the deployment; None for targets that only have endpoints.
        :param inputs: the target's input: usually a DataFrame, or a dict.
        :param endpoint: endpoint of the deployment, for targets that have endpoints.
        :return: the target's predictions as JSON.
        :raises MLflowProviderError: MLflow or the target returned an error.
        """
        with wrap_mlflow_errors(f"Predicting with deployment {deployment_name!r} at {self.target_uri!r}"):
            predictions = self.get_conn().predict(
                deployment_name=deployment_name, inputs=inputs, endpoint=endpoint
            )
        return to_json(predictions)


def _is_missing(error: Any) -> bool:
    """Return whether an error says that a deployment does not exist; a target may also refuse to answer."""
    if (response := getattr(error, "response", None)) is not None:
        return response.status_code == 404
    return error.error_code == "RESOURCE_DOES_NOT_EXIST" or bool(_MISSING.search(str(error)))


def to_json(predictions: Any) -> str:
    """Return a target's predictions as JSON. NaN and infinity, which JSON does not have, become null."""
    if hasattr(predictions, "to_json"):  # MLflow's own type, or a table
        return predictions.to_json()
    text = json.dumps(predictions, default=lambda array: array.tolist())
    return json.dumps(json.loads(text, parse_constant=lambda _: None))
