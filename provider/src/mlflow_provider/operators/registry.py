"""Operators for the MLflow model registry.

Each returns what MLflow's API answers, which is small: names, versions, tags and URIs. The operators
that return a model version also push its ``name``, ``version`` and ``model_uri`` as XComs, so that
``register.output["version"]`` is all a downstream task needs to ask for.

They speak the registry's REST API; on Databricks that is the workspace registry. Models in Unity
Catalog are reached with the ``mlflow`` package, inside
:meth:`MLflowBaseHook.tracking() <mlflow_provider.hooks.base.MLflowBaseHook.tracking>`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from mlflow_provider.exceptions import MLflowAlreadyExistsError, MLflowNotFoundError, wrap_mlflow_errors
from mlflow_provider.hooks.client import as_tag_list
from mlflow_provider.links.mlflow import MLflowModelVersionLink, model_page, push_model_version_link
from mlflow_provider.operators.base import MLflowBaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlflow_provider.hooks.client import Tags


class _IgnoreMissingOperator(MLflowBaseOperator):
    """Base of the operators that take ``ignore_if_missing``.

    :param ignore_if_missing: succeed, and return None, where MLflow knows no such thing.
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
        """Send the request; :meth:`execute` decides what happens if MLflow knows no such thing."""


class _ModelVersionOperator(MLflowBaseOperator):
    """Base of the operators that return a model version."""

    operator_extra_links = (MLflowModelVersionLink(),)

    def push_model_version(self, context: Context, answer: dict[str, Any], done: str) -> dict[str, Any]:
        """Push a model version's name, version, URI and page as XComs, and return the answer it came in.

        :param done: what is logged, without its end "version 3 of 'Housing'".
        """
        ti = context["ti"]
        name, version = answer["model_version"]["name"], answer["model_version"]["version"]
        ti.xcom_push(key="name", value=name)
        ti.xcom_push(key="version", value=version)
        ti.xcom_push(key="model_uri", value=f"models:/{name}/{version}")
        push_model_version_link(ti, self.hook.connection, name, version)
        self.log_done(f"{done} version {version} of {name!r}", model_page(name, version))
        return answer


class _SearchOperator(MLflowBaseOperator):
    """Base of the search operators.

    :param filter_string: which to return, in MLflow's filter syntax (templated).
    :param order_by: columns to sort by.
    :param max_results: how many to return at most.
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
        found = self.hook.search(self.resource, self.filter_string, self.order_by, self.max_results)
        self.log_done(f"Found {len(found)} {self.resource.replace('-', ' ')}", "models")
        return {self.resource.replace("-", "_"): found}


# Registered models


class CreateRegisteredModelOperator(MLflowBaseOperator):
    """Create a registered model.

    :param name: its name (templated).
    :param tags: its tags (templated), as a mapping or as MLflow's list of
        ``{"key": ..., "value": ...}``.
    :param description: its description (templated).
    :param if_exists: ``fail``, or ``skip``: return the model that is there, unchanged.
    :return: ``{"registered_model": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#create-registeredmodel
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "tags", "description")
    template_fields_renderers = {"tags": "json"}

    def __init__(
        self,
        *,
        name: str,
        tags: Tags | None = None,
        description: str | None = None,
        if_exists: Literal["fail", "skip"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.tags = tags
        self.description = description
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        answer = self.hook.create_registered_model(
            self.name, self.tags, self.description, if_exists=self.if_exists
        )
        self.log_done(f"Registered model {self.name!r} is there", model_page(self.name))
        return answer


class GetRegisteredModelOperator(_IgnoreMissingOperator):
    """Get a registered model.

    :param name: its name (templated).
    :param ignore_if_missing: return None where there is no such model.
    :return: ``{"registered_model": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#get-registeredmodel
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name")

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name

    def request(self, context: Context) -> dict[str, Any]:
        answer = self.hook.call("GET", "registered-models/get", {"name": self.name})
        self.log_done(f"Got registered model {self.name!r}", model_page(self.name))
        return answer


class SearchRegisteredModelsOperator(_SearchOperator):
    """Search registered models.

    :param filter_string: e.g. ``name LIKE 'housing%'`` (templated).
    :param order_by: e.g. ``["last_updated_timestamp DESC"]``.
    :param max_results: how many to return at most.
    :return: ``{"registered_models": [...]}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#search-registeredmodels
    """

    resource = "registered-models"


class UpdateRegisteredModelOperator(MLflowBaseOperator):
    """Change the description of a registered model.

    :param name: name of the model (templated).
    :param description: the new description (templated).
    :return: ``{"registered_model": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#update-registeredmodel
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "description")

    def __init__(self, *, name: str, description: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.description = description

    def execute(self, context: Context) -> dict[str, Any]:
        params = {"name": self.name, "description": self.description}
        answer = self.hook.call("PATCH", "registered-models/update", params)
        self.log_done(f"Updated registered model {self.name!r}", model_page(self.name))
        return answer


class SetRegisteredModelTagOperator(MLflowBaseOperator):
    """Set a tag of a registered model.

    :param name: name of the model (templated).
    :param key: the tag (templated).
    :param value: its value (templated).

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#set-registered-model-tag
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "key", "value")

    def __init__(self, *, name: str, key: str, value: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.key = key
        self.value = value

    def execute(self, context: Context) -> None:
        params = {"name": self.name, "key": self.key, "value": str(self.value)}
        self.hook.call("POST", "registered-models/set-tag", params)
        self.log_done(f"Set tag {self.key!r} of {self.name!r}", model_page(self.name))


class DeleteRegisteredModelOperator(_IgnoreMissingOperator):
    """Delete a registered model with all its versions.

    :param name: its name (templated).
    :param ignore_if_missing: succeed where there is no such model.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#delete-registeredmodel
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name")

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name

    def request(self, context: Context) -> None:
        self.hook.call("DELETE", "registered-models/delete", {"name": self.name})
        self.log.info("Deleted registered model %r", self.name)


# Model versions


class CreateModelVersionOperator(_ModelVersionOperator):
    """Create a version of a registered model.

    For a model that a run logged, :class:`RegisterModelOperator` is the shorter way.

    :param name: name of the registered model (templated).
    :param source: URI of the model's artifacts (templated).
    :param run_id: the MLflow run that made it (templated).
    :param tags: tags of the version (templated), as a mapping or as MLflow's list of
        ``{"key": ..., "value": ...}``.
    :param run_link: link to the run, where it lives on another MLflow server (templated).
    :param description: description of the version (templated).
    :param model_id: the logged model it is made from (templated); MLflow wants it where ``source`` is
        ``models:/<model_id>`` or lies among that model's artifacts.
    :param if_exists: when a version of this model was made from the same source: ``new``, another
        version; ``skip``, return the one that is there; ``fail``.
    :return: ``{"model_version": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#create-modelversion
    """

    template_fields: Sequence[str] = (
        "mlflow_conn_id",
        "name",
        "source",
        "run_id",
        "tags",
        "run_link",
        "description",
        "model_id",
    )
    template_fields_renderers = {"tags": "json"}

    def __init__(
        self,
        *,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Tags | None = None,
        run_link: str | None = None,
        description: str | None = None,
        model_id: str | None = None,
        if_exists: Literal["new", "skip", "fail"] = "new",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.source = source
        self.run_id = run_id
        self.tags = tags
        self.run_link = run_link
        self.description = description
        self.model_id = model_id
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        if existing := _existing_version(self, self.name, self.source):
            return self.push_model_version(context, existing, f"Nothing to create: {self.source} is")
        params = {
            "name": self.name,
            "source": self.source,
            "run_id": self.run_id,
            "tags": as_tag_list(self.tags),
            "run_link": self.run_link,
            "description": self.description,
            "model_id": self.model_id,
        }
        answer = self.hook.call("POST", "model-versions/create", params)
        return self.push_model_version(context, answer, "Created")


class RegisterModelOperator(_ModelVersionOperator):
    """Register a model that a run logged, as ``mlflow.register_model`` does.

    The registered model is created where it is missing.

    :param model_uri: ``runs:/<run_id>/<model name>`` or ``models:/<model_id>`` (templated).
    :param name: name of the registered model (templated).
    :param tags: tags of the new version (templated).
    :param if_exists: when this model is registered under that name already: ``skip``, return that
        version, so that a retry registers nothing twice; ``new``, another version; ``fail``.
    :return: ``{"model_version": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.html#mlflow.register_model
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "model_uri", "name", "tags")
    template_fields_renderers = {"tags": "json"}

    def __init__(
        self,
        *,
        model_uri: str,
        name: str,
        tags: dict[str, str] | None = None,
        if_exists: Literal["new", "skip", "fail"] = "skip",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_uri = model_uri
        self.name = name
        self.tags = tags
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        self.hook.connection.registry_url()  # one that REST does not reach is refused before it is written to
        if existing := _existing_version(self, self.name, self.model_uri):
            return self.push_model_version(context, existing, f"Nothing to register: {self.model_uri} is")
        what = f"Connection {self.mlflow_conn_id!r}, registering {self.model_uri} as {self.name!r}"
        with self.hook.tracking(), wrap_mlflow_errors(what):
            import mlflow

            version = mlflow.register_model(self.model_uri, self.name, tags=self.tags).version
        answer = self.hook.get_model_version(self.name, version)
        return self.push_model_version(context, answer, f"Registered {self.model_uri} as")


def _existing_version(
    operator: CreateModelVersionOperator | RegisterModelOperator | CopyModelVersionOperator,
    name: str,
    model_uri: str,
) -> dict[str, Any] | None:
    """Look for a version made from a model before, and do as ``if_exists`` says."""
    if operator.if_exists == "new":
        return None
    existing = operator.hook.find_model_version(name, model_uri)
    if existing is not None and operator.if_exists != "skip":
        raise MLflowAlreadyExistsError(
            f"Version {existing['model_version']['version']} of {name!r} was made from {model_uri}; "
            f"if_exists is {operator.if_exists!r}.",
            status_code=400,
            error_code="RESOURCE_ALREADY_EXISTS",
        )
    return existing


class CopyModelVersionOperator(_ModelVersionOperator):
    """Copy a model version into another registered model, e.g. to promote it from staging to production.

    The target is created where it is missing.

    :param name: registered model to copy from (templated).
    :param version: its version (templated).
    :param to_name: registered model to copy into (templated).
    :param if_exists: when that has a copy of this version already: ``skip``, return it, so that a retry
        copies nothing twice; ``new``, another copy; ``fail``.
    :return: ``{"model_version": {...}}`` of the copy.

    .. seealso:: https://mlflow.org/docs/latest/ml/model-registry/workflow/#promoting-an-mlflow-model-across-environments
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "version", "to_name")

    def __init__(
        self,
        *,
        name: str,
        version: str | int,
        to_name: str,
        if_exists: Literal["new", "skip", "fail"] = "skip",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.version = version
        self.to_name = to_name
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        self.hook.connection.registry_url()  # as above
        model_uri = f"models:/{self.name}/{self.version}"
        if existing := _existing_version(self, self.to_name, model_uri):
            return self.push_model_version(context, existing, f"Nothing to copy: {model_uri} is")
        copy = self.hook.client.copy_model_version(model_uri, self.to_name)
        answer = self.hook.get_model_version(self.to_name, copy.version)
        return self.push_model_version(context, answer, f"Copied {model_uri} to")


class GetModelVersionOperator(_IgnoreMissingOperator, _ModelVersionOperator):
    """Get a model version.

    :param name: name of the registered model (templated).
    :param version: its version, e.g. ``"3"`` (templated).
    :param ignore_if_missing: return None where there is no such version.
    :return: ``{"model_version": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#get-modelversion
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "version")

    def __init__(self, *, name: str, version: str | int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.version = version

    def request(self, context: Context) -> dict[str, Any]:
        answer = self.hook.get_model_version(self.name, self.version)
        return self.push_model_version(context, answer, "Got")


class SearchModelVersionsOperator(_SearchOperator):
    """Search model versions.

    :param filter_string: e.g. ``name = 'Housing' and tags.validated = 'yes'`` (templated).
    :param order_by: e.g. ``["version_number DESC"]``.
    :param max_results: how many to return at most.
    :return: ``{"model_versions": [...]}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#search-modelversions
    """

    resource = "model-versions"


class UpdateModelVersionOperator(_ModelVersionOperator):
    """Change the description of a model version.

    :param name: name of the registered model (templated).
    :param version: its version (templated).
    :param description: the new description (templated).
    :return: ``{"model_version": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#update-modelversion
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "version", "description")

    def __init__(self, *, name: str, version: str | int, description: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.version = version
        self.description = description

    def execute(self, context: Context) -> dict[str, Any]:
        params = {"name": self.name, "version": str(self.version), "description": self.description}
        answer = self.hook.call("PATCH", "model-versions/update", params)
        return self.push_model_version(context, answer, "Updated")


class SetModelVersionTagOperator(MLflowBaseOperator):
    """Set a tag of a model version.

    :param name: name of the registered model (templated).
    :param version: its version (templated).
    :param key: the tag (templated).
    :param value: its value (templated).

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#set-model-version-tag
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "version", "key", "value")

    def __init__(self, *, name: str, version: str | int, key: str, value: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.version = version
        self.key = key
        self.value = value

    def execute(self, context: Context) -> None:
        params = {"name": self.name, "version": str(self.version), "key": self.key, "value": str(self.value)}
        self.hook.call("POST", "model-versions/set-tag", params)
        done = f"Set tag {self.key!r} of version {self.version} of {self.name!r}"
        self.log_done(done, model_page(self.name, self.version))


class DeleteModelVersionOperator(_IgnoreMissingOperator):
    """Delete a model version.

    :param name: name of the registered model (templated).
    :param version: its version (templated).
    :param ignore_if_missing: succeed where there is no such version.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#delete-modelversion
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "version")

    def __init__(self, *, name: str, version: str | int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.version = version

    def request(self, context: Context) -> None:
        self.hook.call("DELETE", "model-versions/delete", {"name": self.name, "version": str(self.version)})
        self.log_done(f"Deleted version {self.version} of {self.name!r}", model_page(self.name))


# Aliases: what points at "the" version to use


class SetRegisteredModelAliasOperator(MLflowBaseOperator):
    """Point an alias of a registered model at a version; it leaves the version it was at.

    :param name: name of the registered model (templated).
    :param alias: the alias, e.g. ``champion`` (templated).
    :param version: the version (templated).

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#set-registered-model-alias
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "alias", "version")

    def __init__(self, *, name: str, alias: str, version: str | int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.alias = alias
        self.version = version

    def execute(self, context: Context) -> None:
        params = {"name": self.name, "alias": self.alias, "version": str(self.version)}
        self.hook.call("POST", "registered-models/alias", params)
        done = f"Set alias {self.alias!r} of {self.name!r} to version {self.version}"
        self.log_done(done, model_page(self.name, self.version))


class GetModelVersionByAliasOperator(_IgnoreMissingOperator, _ModelVersionOperator):
    """Get the model version an alias points at.

    :param name: name of the registered model (templated).
    :param alias: the alias, e.g. ``champion`` (templated).
    :param ignore_if_missing: return None where there is no such model or alias.
    :return: ``{"model_version": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#get-model-version-by-alias
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "alias")

    def __init__(self, *, name: str, alias: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.alias = alias

    def request(self, context: Context) -> dict[str, Any]:
        answer = self.hook.get_model_version_by_alias(self.name, self.alias)
        return self.push_model_version(context, answer, f"Alias {self.alias!r} points at")


class DeleteRegisteredModelAliasOperator(_IgnoreMissingOperator):
    """Remove an alias from a registered model; the version it points at stays.

    MLflow accepts that the alias is missing, but not that the model is.

    :param name: name of the registered model (templated).
    :param alias: the alias (templated).
    :param ignore_if_missing: succeed where there is no such model.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#delete-registered-model-alias
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "alias")

    def __init__(self, *, name: str, alias: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.alias = alias

    def request(self, context: Context) -> None:
        self.hook.call("DELETE", "registered-models/alias", {"name": self.name, "alias": self.alias})
        self.log_done(f"Deleted alias {self.alias!r} of {self.name!r}", model_page(self.name))


# Stages: MLflow still answers, but has deprecated them in favour of aliases


class GetLatestModelVersionsOperator(_IgnoreMissingOperator):
    """Get the newest version of a registered model for each stage. Prefer aliases.

    :param name: name of the registered model (templated).
    :param stages: stages to look at (templated), e.g. ``["Production"]``; without it, all of them.
    :param ignore_if_missing: return None where there is no such model.
    :return: ``{"model_versions": [...]}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#get-latest-modelversions
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "stages")

    def __init__(self, *, name: str, stages: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.stages = stages

    def request(self, context: Context) -> dict[str, Any]:
        params = {"name": self.name, "stages": self.stages}
        answer = self.hook.call("POST", "registered-models/get-latest-versions", params)
        found = len(answer.get("model_versions", []))
        self.log_done(f"Got {found} latest versions of {self.name!r}", model_page(self.name))
        return answer


class TransitionModelVersionStageOperator(_ModelVersionOperator):
    """Move a model version to a stage. Prefer :class:`SetRegisteredModelAliasOperator`.

    :param name: name of the registered model (templated).
    :param version: its version (templated).
    :param stage: ``None``, ``Staging``, ``Production`` or ``Archived`` (templated).
    :param archive_existing_versions: whether versions now in that stage are archived.
    :return: ``{"model_version": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#transition-modelversion-stage
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "version", "stage")

    def __init__(
        self,
        *,
        name: str,
        version: str | int,
        stage: str,
        archive_existing_versions: bool | None = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.version = version
        self.stage = stage
        self.archive_existing_versions = archive_existing_versions

    def execute(self, context: Context) -> dict[str, Any]:
        params = {
            "name": self.name,
            "version": str(self.version),
            "stage": self.stage,
            "archive_existing_versions": self.archive_existing_versions,
        }
        answer = self.hook.call("POST", "model-versions/transition-stage", params)
        return self.push_model_version(context, answer, f"Stage {self.stage!r} now has")
