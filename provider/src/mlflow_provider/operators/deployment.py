"""Operators for deployments of MLflow models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from mlflow_provider.hooks.deployment import MLflowDeploymentHook
from mlflow_provider.operators.base import MLflowBaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class _DeploymentOperator(MLflowBaseOperator):
    """Base of the deployment operators.

    :param target_uri: where the deployment is, or will be, e.g. ``sagemaker`` (templated).
    :param target_conn_id: connection to the target (templated); see :class:`MLflowDeploymentHook`.
    """

    def __init__(self, *, target_uri: str, target_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_uri = target_uri
        self.target_conn_id = target_conn_id

    @cached_property
    def hook(self) -> MLflowDeploymentHook:  # type: ignore[override]  # speaks mlflow.deployments, not REST
        """The hook, made when it is first used."""
        return MLflowDeploymentHook(self.mlflow_conn_id, self.target_uri, self.target_conn_id)


class CreateDeploymentOperator(_DeploymentOperator):
    """Deploy a model.

    :param name: name of the deployment (templated).
    :param model_uri: the model, e.g. ``models:/Housing@champion`` (templated).
    :param flavor: the model's flavor to deploy (templated); the target decides by default.
    :param config: what else the target wants to know (templated).
    :param endpoint: endpoint to create the deployment under, at targets that have endpoints (templated).
    :param if_exists: ``fail``, or ``skip``: return the deployment that is there, unchanged.
    :return: what the target says of the deployment; at least its ``name``.

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
        if_exists: Literal["fail", "skip"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
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
        self.log.info("Deployment %r of %s is at %s.", self.name, self.model_uri, self.target_uri)
        return deployment


class PredictOperator(_DeploymentOperator):
    """Ask a deployment for predictions.

    :param deployment_name: name of the deployment (templated).
    :param inputs: what the target takes: usually a DataFrame, or a dict (templated).
    :param endpoint: endpoint to ask, at targets that have endpoints (templated).
    :return: JSON, as the target answered it, e.g. ``{"predictions": [...]}``.

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
    unshown_fields = ("inputs",)

    def __init__(
        self, *, deployment_name: str, inputs: Any = None, endpoint: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.deployment_name = deployment_name
        self.inputs = inputs
        self.endpoint = endpoint

    def execute(self, context: Context) -> str:
        predictions = self.hook.predict(self.deployment_name, self.inputs, self.endpoint)
        self.log.info("Deployment %r at %s has predicted.", self.deployment_name, self.target_uri)
        return predictions
