"""Operators for the MLflow model registry.

Each operator returns the answer of MLflow's API, which is small: names, versions, tags and URIs. Operators
that return a model version also push its ``name``, ``version`` and ``model_uri`` as XComs, so a downstream
task can use ``register.output["version"]``.

They call MLflow's REST API, which on Databricks serves the workspace registry. For models in Unity Catalog
use the ``mlflow`` package inside
:meth:`MLflowBaseHook.tracking() <mlflow_provider.hooks.base.MLflowBaseHook.tracking>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflow_provider.exceptions import MLflowAlreadyExistsError, check_choice
from mlflow_provider.hooks.client import as_tag_list
from mlflow_provider.links.mlflow import model_page
from mlflow_provider.operators.base import (
    IfExists,
    IfVersionExists,
    IgnoreMissingOperator,
    MLflowBaseOperator,
    ModelVersionOperator,
    NewVersionOperator,
    RegistrySearchOperator,
    created_by,
)
from mlflow_provider.server.replica import until_visible

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlflow_provider.hooks.client import Tags


# Registered models


class CreateRegisteredModelOperator(MLflowBaseOperator):
    """Create a registered model.

    :param name: name of the registered model (templated).
    :param tags: tags of the registered model, as a mapping or as MLflow's list of
        ``{"key": ..., "value": ...}`` (templated).
    :param description: description of the registered model (templated).
    :param if_exists: ``fail``, or ``skip`` to return the existing registered model unchanged. With ``fail``,
        the tag ``airflow.created_by`` lets a retry recognize the registered model that the task has created.
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
        if_exists: IfExists = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("if_exists", if_exists, IfExists)
        self.name = name
        self.tags = tags
        self.description = description
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        own_tag = created_by(context)
        tags = as_tag_list(self.tags) or []
        if self.if_exists == "fail":
            tags.append(own_tag)
        try:
            answer = self.hook.create_registered_model(
                self.name, tags, self.description, if_exists=self.if_exists
            )
        except MLflowAlreadyExistsError:
            get = partial(self.hook.call, "GET", "registered-models/get", {"name": self.name})
            answer = until_visible(f"registered model {self.name!r}", get)
            if own_tag not in answer["registered_model"].get("tags", []):
                raise
        self.log_with_page(f"Registered model {self.name!r} is ready", model_page(self.name))
        return answer


class GetRegisteredModelOperator(IgnoreMissingOperator):
    """Get a registered model.

    :param name: name of the registered model (templated).
    :param ignore_if_missing: return None if the registered model does not exist.
    :return: ``{"registered_model": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#get-registeredmodel
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name")

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name

    def request(self, context: Context) -> dict[str, Any]:
        answer = self.hook.call("GET", "registered-models/get", {"name": self.name})
        self.log_with_page(f"Got registered model {self.name!r}", model_page(self.name))
        return answer


class SearchRegisteredModelsOperator(RegistrySearchOperator):
    """Search registered models.

    :param filter_string: e.g. ``name LIKE 'housing%'`` (templated).
    :param order_by: e.g. ``["last_updated_timestamp DESC"]``.
    :param max_results: maximum number of results.
    :return: ``{"registered_models": [...]}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#search-registeredmodels
    """

    resource = "registered-models"


class UpdateRegisteredModelOperator(MLflowBaseOperator):
    """Update the description of a registered model.

    :param name: name of the registered model (templated).
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
        self.log_with_page(f"Updated registered model {self.name!r}", model_page(self.name))
        return answer


class SetRegisteredModelTagOperator(MLflowBaseOperator):
    """Set a tag of a registered model.

    :param name: name of the registered model (templated).
    :param key: name of the tag (templated).
    :param value: value of the tag (templated).

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
        self.log_with_page(f"Set tag {self.key!r} of {self.name!r}", model_page(self.name))


class DeleteRegisteredModelOperator(IgnoreMissingOperator):
    """Delete a registered model and all its versions.

    :param name: name of the registered model (templated).
    :param ignore_if_missing: succeed if the registered model does not exist, e.g. because the
        previous try has deleted it before it was killed.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#delete-registeredmodel
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name")

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name

    def request(self, context: Context) -> None:
        self.hook.delete("registered-models", {"name": self.name})
        self.log.info("Deleted registered model %r", self.name)


# Model versions


class CreateModelVersionOperator(NewVersionOperator):
    """Create a version of a registered model.

    To register a model that a run logged, :class:`RegisterModelOperator` is simpler.

    :param name: name of the registered model (templated).
    :param source: the model, e.g. ``runs:/<run_id>/<model name>``, or URI of its artifacts (templated). For
        a place in a run's artifacts where the run logged a model, that logged model is used.
    :param run_id: ID of the MLflow run that logged the model (templated). By default that in ``source``.
    :param tags: tags of the version, as a mapping or as MLflow's list of
        ``{"key": ..., "value": ...}`` (templated).
    :param run_link: link to the run, if it is on another MLflow server (templated).
    :param description: description of the version (templated).
    :param model_id: ID of the logged model (templated). MLflow requires it if ``source`` is a path inside
        that model's artifacts. ``source`` is then used unchanged.
    :param if_exists: what to do if a version with the same source exists: create a ``new`` version, ``skip``
        and return the existing one, or ``fail``.
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
        if_exists: IfVersionExists = "new",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("if_exists", if_exists, IfVersionExists)
        self.name = name
        self.source = source
        self.run_id = run_id
        self.tags = tags
        self.run_link = run_link
        self.description = description
        self.model_id = model_id
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        self.hook.connection.registry_url()  # raises for a registry without REST
        resolved = {"source": self.source}
        if not self.model_id:
            resolved = until_visible(self.source, partial(self.hook.resolve_source, self.source))
        source = resolved["source"]
        if existing := self.find_version(context, self.name, source):
            return self.push_model_version(context, existing, f"{self.source} is already")
        answer = self.create_version(
            context,
            self.name,
            self.tags,
            source=self.hook.recorded_source(source),
            run_id=self.run_id or resolved.get("run_id"),
            run_link=self.run_link,
            description=self.description,
            model_id=self.model_id or resolved.get("model_id"),
        )
        return self.push_model_version(context, answer, "Created")


class RegisterModelOperator(NewVersionOperator):
    """Register a model that a run logged, as ``mlflow.register_model`` does.

    The registered model is created if it does not exist.

    :param model_uri: ``runs:/<run_id>/<model name>`` or ``models:/<model_id>`` (templated).
    :param name: name of the registered model (templated).
    :param tags: tags of the new version, as a mapping or as MLflow's list of
        ``{"key": ..., "value": ...}`` (templated).
    :param description: description of the version (templated).
    :param alias: an alias to point at the version, e.g. ``challenger`` (templated).
    :param if_exists: what to do if the model is already registered under this name: ``skip`` and return that
        version, so that a retry does not register it twice; create a ``new`` version; or ``fail``. An
        existing version also gets the description and the alias, but not the tags.
    :return: ``{"model_version": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.html#mlflow.register_model
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "model_uri", "name", "tags", "description", "alias")
    template_fields_renderers = {"tags": "json"}

    def __init__(
        self,
        *,
        model_uri: str,
        name: str,
        tags: Tags | None = None,
        description: str | None = None,
        alias: str | None = None,
        if_exists: IfVersionExists = "skip",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("if_exists", if_exists, IfVersionExists)
        self.model_uri = model_uri
        self.name = name
        self.tags = tags
        self.description = description
        self.alias = alias
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        # Raises for a registry without REST or without aliases, before anything is written.
        self.hook.connection.registry_url(aliases=bool(self.alias))
        resolved = until_visible(self.model_uri, partial(self.hook.resolve_source, self.model_uri))
        # A run may also have versions from another place than the one that a new version gets.
        model_uri = self.model_uri if str(self.model_uri).startswith("runs:/") else resolved["source"]
        if answer := self.find_version(context, self.name, model_uri):
            action = f"{self.model_uri} is already"
        else:
            action = f"Registered {self.model_uri} as"
            resolved["source"] = self.hook.recorded_source(resolved["source"])
            answer = self.create_version(context, self.name, self.tags, create_model=True, **resolved)
        at_version = {"name": self.name, "version": answer["model_version"]["version"]}
        if self.description:
            params = {**at_version, "description": self.description}
            answer = self.hook.call("PATCH", "model-versions/update", params)
        if self.alias:
            self.hook.call("POST", "registered-models/alias", {**at_version, "alias": self.alias})
        return self.push_model_version(context, answer, action)


class CopyModelVersionOperator(NewVersionOperator):
    """Copy a model version to another registered model, e.g. to promote it from staging to production.

    The target registered model is created if it does not exist.

    :param name: registered model to copy from (templated).
    :param version: version to copy (templated).
    :param to_name: registered model to copy to (templated).
    :param if_exists: what to do if the target already has a copy of this version: ``skip`` and return it, so
        that a retry does not copy it twice; create a ``new`` copy; or ``fail``.
    :return: ``{"model_version": {...}}`` of the copy

    .. seealso:: https://mlflow.org/docs/latest/ml/model-registry/workflow/#promoting-an-mlflow-model-across-environments
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "version", "to_name")

    def __init__(
        self,
        *,
        name: str,
        version: str | int,
        to_name: str,
        if_exists: IfVersionExists = "skip",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("if_exists", if_exists, IfVersionExists)
        self.name = name
        self.version = version
        self.to_name = to_name
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        self.hook.connection.registry_url()  # raises for a registry without REST, before anything is written
        model_uri = f"models:/{self.name}/{self.version}"
        if existing := self.find_version(context, self.to_name, model_uri):
            return self.push_model_version(context, existing, f"{model_uri} is already copied to")
        get_original = partial(self.hook.get_model_version, self.name, self.version)
        original = until_visible(model_uri, get_original)["model_version"]
        answer = self.create_version(
            context,
            self.to_name,
            original.get("tags"),
            create_model=True,
            source=model_uri,
            run_id=original.get("run_id"),
            run_link=original.get("run_link"),
            description=original.get("description"),
        )
        return self.push_model_version(context, answer, f"Copied {model_uri} to")


class GetModelVersionOperator(IgnoreMissingOperator, ModelVersionOperator):
    """Get a model version.

    :param name: name of the registered model (templated).
    :param version: the version, e.g. ``"3"`` (templated).
    :param ignore_if_missing: return None if the version does not exist.
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


class SearchModelVersionsOperator(RegistrySearchOperator):
    """Search model versions.

    :param filter_string: e.g. ``name = 'Housing' and tags.validated = 'yes'`` (templated).
    :param order_by: e.g. ``["version_number DESC"]``.
    :param max_results: maximum number of results.
    :return: ``{"model_versions": [...]}``

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#search-modelversions
    """

    resource = "model-versions"


class UpdateModelVersionOperator(ModelVersionOperator):
    """Update the description of a model version.

    :param name: name of the registered model (templated).
    :param version: the version (templated).
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
    :param version: the version (templated).
    :param key: name of the tag (templated).
    :param value: value of the tag (templated).

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
        message = f"Set tag {self.key!r} of version {self.version} of {self.name!r}"
        self.log_with_page(message, model_page(self.name, self.version))


class DeleteModelVersionOperator(IgnoreMissingOperator):
    """Delete a model version.

    :param name: name of the registered model (templated).
    :param version: the version (templated).
    :param ignore_if_missing: succeed if the version does not exist, e.g. because the previous try has
        deleted it before it was killed.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#delete-modelversion
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "version")

    def __init__(self, *, name: str, version: str | int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.version = version

    def request(self, context: Context) -> None:
        self.hook.delete("model-versions", {"name": self.name, "version": str(self.version)})
        self.log_with_page(f"Deleted version {self.version} of {self.name!r}", model_page(self.name))


# Aliases


class SetRegisteredModelAliasOperator(MLflowBaseOperator):
    """Point an alias of a registered model at a version. The alias moves if it exists.

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
        message = f"Set alias {self.alias!r} of {self.name!r} to version {self.version}"
        self.log_with_page(message, model_page(self.name, self.version))


class GetModelVersionByAliasOperator(IgnoreMissingOperator, ModelVersionOperator):
    """Get the model version an alias points at.

    :param name: name of the registered model (templated).
    :param alias: the alias, e.g. ``champion`` (templated).
    :param ignore_if_missing: return None if the registered model or the alias does not exist.
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


class DeleteRegisteredModelAliasOperator(IgnoreMissingOperator):
    """Delete an alias of a registered model. The version that it points at is kept.

    A missing alias is not an error in MLflow, a missing registered model is.

    :param name: name of the registered model (templated).
    :param alias: the alias (templated).
    :param ignore_if_missing: succeed if the registered model does not exist.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#delete-registered-model-alias
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "alias")

    def __init__(self, *, name: str, alias: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.alias = alias

    def request(self, context: Context) -> None:
        self.hook.call("GET", "registered-models/get", {"name": self.name})  # raises if it is missing
        self.hook.call("DELETE", "registered-models/alias", {"name": self.name, "alias": self.alias})
        self.log_with_page(f"Deleted alias {self.alias!r} of {self.name!r}", model_page(self.name))


# Stages, which MLflow has deprecated in favor of aliases


class GetLatestModelVersionsOperator(IgnoreMissingOperator):
    """Get the latest version of a registered model in each stage. Prefer aliases to stages.

    :param name: name of the registered model (templated).
    :param stages: the stages, e.g. ``["Production"]`` (templated). The default is all stages.
    :param ignore_if_missing: return None if the registered model does not exist.
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
        count = len(answer.get("model_versions", []))
        self.log_with_page(f"Got {count} latest versions of {self.name!r}", model_page(self.name))
        return answer


class TransitionModelVersionStageOperator(ModelVersionOperator):
    """Move a model version to a stage. Prefer aliases, and :class:`SetRegisteredModelAliasOperator`.

    :param name: name of the registered model (templated).
    :param version: the version (templated).
    :param stage: ``None``, ``Staging``, ``Production`` or ``Archived`` (templated).
    :param archive_existing_versions: archive the versions that are in this stage now.
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
        return self.push_model_version(context, answer, f"Moved to stage {self.stage!r}:")
