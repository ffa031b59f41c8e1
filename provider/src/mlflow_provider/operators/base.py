"""Base classes of the MLflow operators."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from airflow.sdk import BaseOperator

from mlflow_provider.exceptions import MLflowAlreadyExistsError, MLflowAPIError, MLflowNotFoundError
from mlflow_provider.hooks.client import MLflowClientHook, as_tag_list, create_once, equals
from mlflow_provider.hooks.deployment import MLflowDeploymentHook
from mlflow_provider.links.mlflow import MLflowModelVersionLink, model_page, push_model_version_link
from mlflow_provider.tracking.runs import TASK_INSTANCE
from mlflow_provider.tracking.task_instance import identity

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlflow_provider.hooks.client import Tags

# As MLflow's client; Databricks copies the model meanwhile.
MAX_REGISTRATION_SECONDS = 300

IfExists = Literal["fail", "skip"]
IfVersionExists = Literal["new", "skip", "fail"]


class MLflowBaseOperator(BaseOperator):
    """Base of all MLflow operators.

    :param mlflow_conn_id: connection to the MLflow server (templated).
    """

    ui_color = "#e0f2fe"
    # Template fields that *Rendered Templates* does not show, because their values may be large or private.
    hidden_template_fields: Collection[str] = ()

    def __init__(self, *, mlflow_conn_id: str = MLflowClientHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mlflow_conn_id = mlflow_conn_id

    @cached_property
    def hook(self) -> MLflowClientHook:
        """The hook for :attr:`mlflow_conn_id`."""
        return MLflowClientHook(mlflow_conn_id=self.mlflow_conn_id)

    def render_template(self, *args: Any, **kwargs: Any) -> Any:
        """Render a template, and hide the fields that *Rendered Templates* must not show.

        After rendering, Airflow stores the values of ``template_fields``. Of the public methods for
        rendering, this is the only one that it also calls for a mapped task.
        """
        if self.template_fields is type(self).template_fields:
            visible = [name for name in self.template_fields if name not in self.hidden_template_fields]
            self.template_fields = visible
        return super().render_template(*args, **kwargs)

    def pre_execute(self, context: Context) -> None:
        """Turn numbers into text, which MLflow expects.

        With ``render_template_as_native_obj=True`` in the DAG, ``"{{ ds_nodash }}"`` renders to a number.
        """
        super().pre_execute(context)
        for name in self.template_fields:
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                setattr(self, name, str(value))

    def log_with_page(self, message: str, page: str) -> None:
        """Log what the operator did, and the address of a page in MLflow.

        :param page: e.g. ``experiments/1``.
        """
        self.log.info("%s: %s", message, self.hook.connection.page(page))


def created_by(context: Context) -> dict[str, str]:
    """Return the tag of what the tries of a task instance create together, until the task is cleared."""
    ti: Any = context.get("ti")  # a test may call execute({}), as with 1.1.0
    value = f"{identity(context)[TASK_INSTANCE]}/{ti.max_tries}" if ti else uuid4().hex
    return {"key": "airflow.created_by", "value": value}


class IgnoreMissingOperator(MLflowBaseOperator):
    """Base of the operators that take ``ignore_if_missing``.

    :param ignore_if_missing: succeed and return None if MLflow does not find the resource.
    """

    def __init__(self, *, ignore_if_missing: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_if_missing = ignore_if_missing

    def execute(self, context: Context) -> dict[str, Any] | None:
        try:
            return self.request(context)
        except MLflowNotFoundError as error:
            if not self.ignore_if_missing:
                raise
            self.log.info("Ignored, because of ignore_if_missing: %s", error)
            return None

    @abstractmethod
    def request(self, context: Context) -> dict[str, Any] | None:
        """Send the request. :meth:`execute` handles a missing resource."""


class ModelVersionOperator(MLflowBaseOperator):
    """Base of the operators that return a model version."""

    operator_extra_links = (MLflowModelVersionLink(),)

    def push_model_version(self, context: Context, answer: dict[str, Any], action: str) -> dict[str, Any]:
        """Push a model version's name, version, URI and page as XComs, and return MLflow's answer.

        :param answer: ``{"model_version": {...}}``
        :param action: beginning of the log line, which ends with "version 3 of 'Housing'".
        """
        name, version = answer["model_version"]["name"], answer["model_version"]["version"]
        if ti := context.get("ti"):  # a test may call execute({}), as with 1.1.0
            ti.xcom_push(key="name", value=name)
            ti.xcom_push(key="version", value=version)
            ti.xcom_push(key="model_uri", value=f"models:/{name}/{version}")
            push_model_version_link(ti, self.hook.connection, name, version)
        self.log_with_page(f"{action} version {version} of {name!r}", model_page(name, version))
        return answer


class NewVersionOperator(ModelVersionOperator):
    """Base of the operators that create a version: one, however often MLflow's response is lost.

    The tag ``airflow.created_by`` lets the operator, and a retry of the task, recognize the version.
    """

    if_exists: IfVersionExists

    def find_version(self, context: Context, name: str, model_uri: str) -> dict[str, Any] | None:
        """Return the version that an earlier try has created, or that ``if_exists`` skips to, if any.

        :param name: name of the registered model.
        :param model_uri: the model of the version.
        :return: ``{"model_version": {...}}``
        :raises MLflowAlreadyExistsError: a version exists, and ``if_exists`` is ``fail``.
        """
        ti: Any = context.get("ti")
        if ti and ti.try_number > 1 and (own := self._find_own(name, created_by(context))):
            return own
        if self.if_exists == "new":
            return None
        existing = self.hook.find_model_version(name, model_uri)
        if existing is not None and self.if_exists != "skip":
            version = existing["model_version"]["version"]
            raise MLflowAlreadyExistsError(
                f"{model_uri} is already version {version} of {name!r}, and if_exists is {self.if_exists!r}.",
                status_code=400,
                error_code="RESOURCE_ALREADY_EXISTS",
            )
        return existing

    def create_version(
        self, context: Context, name: str, tags: Tags | None, *, create_model: bool = False, **params: Any
    ) -> dict[str, Any]:
        """Create a version and return ``{"model_version": {...}}``.

        :param create_model: also create the registered model if it does not exist, unless MLflow then rejects
            the version.
        """
        own_tag = created_by(context)
        others = [tag for tag in as_tag_list(tags) or [] if tag["key"] != own_tag["key"]]
        params = {**params, "name": name, "tags": [*others, own_tag]}
        if create_model:
            self.hook.create_registered_model(name, [own_tag], if_exists="skip")
        try:
            answer = create_once(
                self.hook,
                lambda hook: hook.call("POST", "model-versions/create", params),
                lambda: self._find_own(name, own_tag),
            )
        except MLflowAPIError as error:
            if create_model and not error.is_transient:
                with suppress(MLflowAPIError):  # the rejection is the error to be seen
                    self._delete_empty_model(name, own_tag)
            raise
        for _ in range(MAX_REGISTRATION_SECONDS):
            if answer["model_version"].get("status") != "PENDING_REGISTRATION":
                break
            time.sleep(1)
            answer = self.hook.get_model_version(name, answer["model_version"]["version"])
        return answer

    def _delete_empty_model(self, name: str, own_tag: dict[str, str]) -> None:
        model = self.hook.call("GET", "registered-models/get", {"name": name})["registered_model"]
        if own_tag in model.get("tags", []) and not model.get("latest_versions"):
            self.hook.delete("registered-models", {"name": name})

    def _find_own(self, name: str, own_tag: dict[str, str]) -> dict[str, Any] | None:
        found = self.hook.search_versions(name, equals(f"tags.`{own_tag['key']}`", own_tag["value"]))
        own = [version for version in found if own_tag in version.get("tags", [])]
        return {"model_version": own[0]} if own else None


class RegistrySearchOperator(MLflowBaseOperator):
    """Base of the operators that search the model registry.

    :param filter_string: filter in MLflow's syntax (templated).
    :param order_by: columns to sort by.
    :param max_results: maximum number of results.
    """

    resource: Literal["registered-models", "model-versions"]
    template_fields: Sequence[str] = ("mlflow_conn_id", "filter_string")

    def __init__(
        self,
        *,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        max_results: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filter_string = filter_string
        self.order_by = order_by
        self.max_results = max_results

    def execute(self, context: Context) -> dict[str, Any]:
        results = self.hook.search(self.resource, self.filter_string, self.order_by, self.max_results)
        self.log_with_page(f"Found {len(results)} {self.resource.replace('-', ' ')}", "models")
        return {self.resource.replace("-", "_"): results}


class DeploymentOperator(MLflowBaseOperator):
    """Base of the deployment operators.

    :param target_uri: deployment target, e.g. ``sagemaker`` (templated).
    :param target_conn_id: connection to the target (templated); see :class:`MLflowDeploymentHook`.
    """

    def __init__(self, *, target_uri: str, target_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_uri = target_uri
        self.target_conn_id = target_conn_id

    @cached_property
    def hook(self) -> MLflowDeploymentHook:  # type: ignore[override]  # uses mlflow.deployments, not REST
        """The hook for the target."""
        return MLflowDeploymentHook(self.mlflow_conn_id, self.target_uri, self.target_conn_id)
