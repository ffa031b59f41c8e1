"""Operators for deployments of MLflow models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlflow_provider.exceptions import check_choice
from mlflow_provider.operators.base import DeploymentOperator, IfExists

if TYPE_CHECKING:
    from airflow.sdk import Context


class CreateDeploymentOperator(DeploymentOperator):
    """Deploy a model.

    :param name: name of the deployment (templated).
    :param model_uri: the model, e.g. ``models:/Housing@champion`` (templated).
    :param flavor: the model's flavor to deploy (templated); the target decides by default.
    :param config: options of the target (templated).
    :param endpoint: endpoint for the deployment, for targets with endpoints (templated).
    :param if_exists: ``fail``, or ``skip`` to return the existing deployment unchanged.
    :return: the target's description of the deployment, with at least its ``name``.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.deployments.html
    """

    template_fields: Sequence[str] = (
        "mlflow_conn_id",
        "target_uri",
        "target_conn_id",
        "name",
        "model_uri",
        "flavor",
        "config",
        "endpoint",
    )
    template_fields_renderers = {"config": "json"}

    def __init__(
        self,
        *,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: dict[str, Any] | None = None,
        endpoint: str | None = None,
        if_exists: IfExists = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("if_exists", if_exists, IfExists)
        self.name = name
        self.model_uri = model_uri
        self.flavor = flavor
        self.config = config
        self.endpoint = endpoint
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        deployment = self.hook.create_deployment(
            self.name, self.model_uri, self.flavor, self.config, self.endpoint, if_exists=self.if_exists
        )
        self.log.info("Deployment %r at %s is ready.", self.name, self.target_uri)
        return deployment


class PredictOperator(DeploymentOperator):
    """Get predictions from a deployment.

    :param deployment_name: name of the deployment (templated).
    :param inputs: input for the target, usually a DataFrame or a dict (templated). Airflow does not show it
        under *Rendered Templates*.
    :param endpoint: endpoint to use, for targets with endpoints (templated).
    :return: the target's answer as JSON, e.g. ``{"predictions": [...]}``.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.deployments.html
    """

    template_fields: Sequence[str] = (
        "mlflow_conn_id",
        "target_uri",
        "target_conn_id",
        "deployment_name",
        "inputs",
        "endpoint",
    )
    hidden_template_fields = ("inputs",)

    def __init__(
        self, *, deployment_name: str, inputs: Any = None, endpoint: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.deployment_name = deployment_name
        self.inputs = inputs
        self.endpoint = endpoint

    def execute(self, context: Context) -> str:
        predictions = self.hook.predict(self.deployment_name, self.inputs, self.endpoint)
        self.log.info("Got predictions from deployment %r at %s.", self.deployment_name, self.target_uri)
        return predictions
