"""MLflow's REST API."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mlflow_provider.exceptions import (
    MLflowAlreadyExistsError,
    MLflowAPIError,
    MLflowConfigurationError,
    MLflowNotFoundError,
    MLflowProviderError,
)
from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.server.limits import Limits, backoff, interactive
from mlflow_provider.server.replica import until_visible

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from mlflow_provider.server.connection import MLflowConnection
    from mlflow_provider.server.login import Authentication

# The maximum in searches for registered models, which have the lowest limit at MLflow and Databricks.
PAGE_SIZE = 1000
MAX_PAGES = 1000  # of a search; a page may be short or empty
MAX_VERSIONS = 10_000  # of one registered model

# A place in the artifacts of a run: the ID of the run, and the path.
_RUN_ARTIFACT = re.compile(r".*/([0-9a-f]{32})/artifacts/(.+)")

SETTLING_SECONDS = 3.0  # after which a replica of MLflow's database is seldom behind

T = TypeVar("T")

Tags = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class MLflowClientHook(MLflowBaseHook):
    """Calls MLflow's REST API, without importing the ``mlflow`` package.

    .. code-block:: python

        MLflowClientHook().call("GET", "registered-models/get", {"name": "Housing"})

    :param method: HTTP method of :meth:`run`.
    :param mlflow_conn_id: connection of type ``mlflow`` (``http`` also works).
    :param auth_type: returns a ``requests`` authentication for a user name and password; basic
        authentication by default.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html
    """

    def __init__(
        self,
        method: str = "POST",
        mlflow_conn_id: str = MLflowBaseHook.default_conn_name,
        auth_type: Callable[[str, str], Authentication] | None = None,
    ) -> None:
        super().__init__(mlflow_conn_id)
        self.method = method.upper()
        self.auth_type = auth_type
        self._repeat = True
        self._pool_from: MLflowClientHook | None = None

    @classmethod
    def for_connection(cls, connection: MLflowConnection, method: str = "POST") -> MLflowClientHook:
        """Return a hook for a connection that has been read already."""
        hook = cls(method, connection.conn_id)
        hook.connection = connection
        return hook

    @property
    def base_url(self) -> str:
        """Address of the server, without a trailing slash."""
        return self.connection.url

    def with_limits(
        self, limits: Limits, *, own_pool: bool = False, reread_login: bool = True
    ) -> MLflowClientHook:
        """Return a hook for the same server with other limits than the connection's.

        :param limits: how long each request may take, and how long it is retried.
        :param own_pool: whether to open new TCP connections, as a signal handler must; by default the hooks
            share them.
        :param reread_login: whether to read the Airflow connection again when the server rejects the login;
            False for a thread that cannot query Airflow.
        """
        connection = replace(self.connection, timeout=limits.timeout, retry_timeout=limits.retry_timeout)
        if not reread_login:
            connection = replace(connection, get_connection=None)
        hook = MLflowClientHook(self.method, self.mlflow_conn_id, self.auth_type)
        hook.connection = connection
        hook._repeat = limits.repeat
        hook._pool_from = None if own_pool else self
        return hook

    @cached_property
    def _session(self) -> requests.Session:
        return self._new_session()

    def _new_session(self) -> requests.Session:
        from mlflow_provider.server.session import Session

        return Session(
            self.connection,
            auth_type=self.auth_type,
            repeat=self._repeat,
            pool_from=self._pool_from.get_conn() if self._pool_from else None,
        )

    def get_conn(self, headers: Mapping[str, str] | None = None) -> requests.Session:
        """Return a session with the connection's login, always the same one.

        :param headers: HTTP headers for all requests of a new session.
        """
        if not headers:
            return self._session
        session = self._new_session()
        session.headers.update(headers)
        return session

    def run(
        self,
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
        request_params: Mapping[str, Any] | None = None,
        **request_kwargs: Any,
    ) -> requests.Response:
        """Send a request with the hook's method and return the response, whatever its status.

        :param endpoint: path below the server's address, e.g. ``api/2.0/mlflow/runs/get``.
        :param headers: HTTP headers for this request.
        :param request_params: query of a GET, JSON body of anything else.
        :param request_kwargs: passed to ``requests.Session.request``, e.g. ``timeout``, ``params`` for a
            query with a POST, or ``stream=True`` for a response above 64 MB; ``allow_redirects`` decides
            whether a redirect is followed or returned. Unknown ones are ignored with a warning.
        :raises ValueError: ``request_params``, and the same again as ``params`` or ``json``.
        :raises MLflowUnreachableError: the request cannot be sent, or got no response after all retries.
        :raises MLflowAPIError: the server redirects.
        :raises MLflowConfigurationError: the request is for the registry, which is in Unity Catalog, or for
            an alias, which the registry of a Databricks workspace lacks.
        """
        import requests

        from mlflow_provider.server import rest

        accepted = inspect.signature(requests.Session.request).parameters.keys() - {"self", "method", "url"}
        if unknown := request_kwargs.keys() - accepted:
            self.log.warning("run() ignores unknown arguments: %s", ", ".join(sorted(unknown)))
            request_kwargs = {key: value for key, value in request_kwargs.items() if key in accepted}
        same = "params" if self.method == "GET" else "json"
        if request_params is not None and same in request_kwargs:
            raise ValueError(f"run() takes request_params or {same}, not both.")
        return rest.send(
            self._session,
            self.connection,
            self.method,
            endpoint or "",
            request_params,
            headers=headers,
            **request_kwargs,
        )

    def call(self, method: str, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call MLflow's API and return its response.

        :param method: HTTP method, from MLflow's API reference.
        :param path: path below ``api/2.0/mlflow/``, e.g. ``registered-models/get``.
        :param params: query of a GET, JSON body of anything else; None values are left out.
        :raises MLflowUnreachableError: no response after all retries.
        :raises MLflowNotFoundError: the resource does not exist.
        :raises MLflowAlreadyExistsError: the name is taken.
        :raises MLflowAPIError: MLflow, or another server at its address, returned an error.
        """
        from mlflow_provider.server import rest

        return rest.call(self._session, self.connection, method, path, params)

    def test_connection(self) -> tuple[bool, str]:
        """Search for an experiment, as a task would, and return whether that works and a message.

        ``/health`` is not enough: it also responds when the API answers 401 or 403.
        """
        from mlflow_provider.server import rest

        try:
            hook = self.with_limits(interactive(self.connection), own_pool=True)
            connection = replace(hook.connection, conn_id="")  # the form generates one
            rest.call(hook.get_conn(), connection, "POST", "experiments/search", {"max_results": 1})
        except MLflowConfigurationError as error:
            is_artifact_store = error.conn_id not in ("", self.mlflow_conn_id)
            field = f"Field {error.field}: {error.problem}; {error.fix}."
            return False, str(error) if is_artifact_store else field
        except MLflowProviderError as error:
            return False, str(error)
        login = " and accepts this login" if str(connection.login) else ""
        return True, f"MLflow responds at {connection.url}{login}."

    def get_run(self, run_id: str) -> dict[str, Any]:
        """Return a run as MLflow's API returns it, with ``info`` and ``data``.

        :raises MLflowNotFoundError: the run does not exist.
        """
        return self.call("GET", "runs/get", {"run_id": run_id})["run"]

    def get_or_create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Tags | None = None
    ) -> str:
        """Return the ID of an experiment, and create it if it does not exist.

        Safe to call from many tasks at once.

        :param name: name of the experiment.
        :param artifact_location: where a new experiment stores artifacts; by default the server decides and
            proxies them, so that workers need no credentials for the store.
        :param tags: tags of a new experiment.
        :raises MLflowAPIError: the experiment of that name is deleted, or MLflow rejects the name, which on
            Databricks must be an absolute path.
        """
        if self.connection.is_databricks and not name.startswith("/"):
            raise MLflowAPIError(
                f"Experiment {name!r}: on Databricks the name must be an absolute path. "
                f"Use, for example, /Shared/{name} or /Users/<you>/{name}.",
                status_code=400,
                error_code="INVALID_PARAMETER_VALUE",
            )
        with suppress(MLflowNotFoundError):
            return self._get_experiment_id(name)
        params = {"name": name, "artifact_location": artifact_location, "tags": as_tag_list(tags)}
        with suppress(MLflowAlreadyExistsError):  # another task created it first
            return self.call("POST", "experiments/create", params)["experiment_id"]
        return until_visible(f"experiment {name!r}", lambda: self._get_experiment_id(name))

    def _get_experiment_id(self, name: str) -> str:
        experiment = self.call("GET", "experiments/get-by-name", {"experiment_name": name})["experiment"]
        experiment_id = experiment["experiment_id"]
        if experiment["lifecycle_stage"] == "deleted":
            raise MLflowAPIError(
                f"Experiment {name!r} is deleted, but its name is still taken. Choose another, or restore "
                f"it on the server: mlflow experiments restore --experiment-id {experiment_id}",
                status_code=400,
                error_code="INVALID_STATE",
            )
        return experiment_id

    def create_registered_model(
        self,
        name: str,
        tags: Tags | None = None,
        description: str | None = None,
        *,
        if_exists: Literal["fail", "skip"] = "fail",
    ) -> dict[str, Any]:
        """Create a registered model and return MLflow's ``{"registered_model": {...}}``.

        :param name: name of the registered model.
        :param tags: its tags, as a mapping or as MLflow's list of ``{"key": ..., "value": ...}``.
        :param description: its description.
        :param if_exists: ``fail``, or ``skip``: return the existing model unchanged.
        :raises MLflowAlreadyExistsError: it exists, and ``if_exists`` is ``fail``.
        """
        params = {"name": name, "tags": as_tag_list(tags), "description": description}
        existing = None
        if if_exists == "skip":  # a login without the permission to create may read it
            with suppress(MLflowNotFoundError):
                existing = self._get_registered_model(name)
        try:
            return existing or self.call("POST", "registered-models/create", params)
        except MLflowAlreadyExistsError:
            if if_exists != "skip":
                raise
        what = f"registered model {name!r}"
        return until_visible(what, partial(self._get_registered_model, name))

    def _get_registered_model(self, name: str) -> dict[str, Any]:
        model = self.call("GET", "registered-models/get", {"name": name})
        self.log.info("Registered model %r already exists.", name)
        return model

    def delete(
        self, resource: Literal["registered-models", "model-versions"], key: Mapping[str, str]
    ) -> None:
        """Delete one of the ``registered-models`` or ``model-versions``.

        :raises MLflowNotFoundError: it does not exist.
        """
        self.call("GET", f"{resource}/get", key)
        with suppress(MLflowNotFoundError):  # if the request was repeated because its response was lost
            self.call("DELETE", f"{resource}/delete", key)

    def get_model_version(self, name: str, version: str | int) -> dict[str, Any]:
        """Return ``{"model_version": {...}}``.

        :raises MLflowNotFoundError: the version does not exist.
        """
        return self.call("GET", "model-versions/get", {"name": name, "version": str(version)})

    def get_model_version_by_alias(self, name: str, alias: str) -> dict[str, Any]:
        """Return ``{"model_version": {...}}`` of the version that an alias points to.

        :raises MLflowNotFoundError: the model or the alias does not exist.
        """
        try:
            return self.call("GET", "registered-models/alias", {"name": name, "alias": alias})
        except MLflowAPIError as error:
            # For a missing alias MLflow reports a bad parameter.
            if error.error_code == "INVALID_PARAMETER_VALUE" and "not found" in str(error):
                raise MLflowNotFoundError(
                    error.finding or str(error), status_code=error.status_code, error_code=error.error_code
                ) from None
            raise

    def find_model_version(self, name: str, model_uri: str) -> dict[str, Any] | None:
        """Return ``{"model_version": {...}}`` of the newest version created from a model, or None.

        :param name: name of the registered model.
        :param model_uri: ``models:/<model_id>``, ``runs:/<run_id>/<model name>``, or the source of the
            version.
        """
        for source in map(self.recorded_source, self._sources(model_uri)):
            found = self.search_versions(name, equals("source_path", source))
            if versions := [each for each in found if each.get("source") == source]:
                return {"model_version": max(versions, key=lambda version: int(version["version"]))}
        return None

    def search_versions(self, name: str, condition: str) -> list[dict[str, Any]]:
        """Return the versions of a registered model that meet a condition, oldest first.

        Databricks accepts only one condition and returns all versions: check the result.

        :param name: name of the registered model.
        :param condition: e.g. ``version_number > 3``.
        """
        criteria = equals("name", name)
        if not self.connection.is_databricks:
            criteria += f" and {condition}"
        found = self.search("model-versions", criteria, ["version_number ASC"], max_results=MAX_VERSIONS)
        return [version for version in found if version["name"] == name]

    def recorded_source(self, source: str) -> str:
        """Return what the registry records for a source.

        That of a Databricks workspace does not support ``models:/<model_id>``, but the place of the model.
        """
        logged_model = re.fullmatch(r"models:/(m-\w+)", source)
        if not logged_model or not self.connection.is_databricks:
            return source
        return self.call("GET", f"logged-models/{logged_model[1]}")["model"]["info"]["artifact_uri"]

    def _sources(self, model_uri: str) -> list[str]:
        """Return the sources that MLflow may have recorded for a version created from a model."""
        if not model_uri.startswith("runs:/"):
            return [model_uri]
        run_id, path = _parse_run_uri(model_uri)
        run = self.get_run(run_id)
        if model_ids := self._logged_models(run, path):
            return [f"models:/{model_id}" for model_id in model_ids]
        # A client of MLflow 2 logs the model as an artifact of the run.
        return [model_uri, f"{run['info']['artifact_uri']}/{path}"]

    def _logged_models(self, run: Mapping[str, Any], name: str) -> list[str]:
        """Return the IDs of a run's logged models of a name, that of the last step first, as MLflow does."""
        outputs = run.get("outputs", {}).get("model_outputs", [])
        model_ids = [each["model_id"] for each in sorted(outputs, key=lambda each: -int(each.get("step", 0)))]
        return [
            model_id
            for model_id in model_ids
            if self.call("GET", f"logged-models/{model_id}")["model"]["info"]["name"] == name
        ]

    def resolve_source(self, source: str) -> dict[str, str]:
        """Return ``source``, ``run_id`` and ``model_id`` of a new version, the IDs only if they are known.

        MLflow 3 keeps logged models outside of the run's artifacts. If the source is
        ``runs:/<run_id>/<name>``, or that path in the run's artifacts, and the run logged a model of that
        name, the source becomes ``models:/<model_id>``.

        :param source: the source that a user gave.
        :raises MLflowNotFoundError: there is no such run or model; for ``runs:/`` and ``models:/m-`` only.
        """
        source = str(source)  # a template may render None
        if match := re.fullmatch(r"models:/(m-\w+)", source):
            self.call("GET", f"logged-models/{match[1]}")
            return {"source": source, "model_id": match[1]}
        run_uri = as_run_uri(source)
        if not run_uri.startswith("runs:/"):
            return {"source": source}
        run_id, path = _parse_run_uri(run_uri)
        try:
            run = self.get_run(run_id)
        except MLflowNotFoundError:
            if run_uri == source:
                raise
            return {"source": source}  # a run of another server
        if model_ids := self._logged_models(run, path):
            return {"source": f"models:/{model_ids[0]}", "run_id": run_id, "model_id": model_ids[0]}
        is_model = self._has_model_file(run_id, path)
        if run_uri != source:
            if not is_model:
                self.log.warning("No MLmodel file in %s: MLflow cannot load a version from there.", source)
            return {"source": source, "run_id": run_id}
        if not is_model:
            raise MLflowNotFoundError(
                f"Run {run_id} has no model {path!r}. Pass the name with which it was logged.",
                status_code=404,
            )
        return {"source": f"{run['info']['artifact_uri']}/{path}", "run_id": run_id}

    def _has_model_file(self, run_id: str, path: str) -> bool:
        hook = self.with_limits(interactive(self.connection))
        try:
            files = hook.call("GET", "artifacts/list", {"run_id": run_id, "path": path}).get("files", [])
        except MLflowProviderError:  # the server cannot list this artifact store
            return True
        return f"{path}/MLmodel" in [file["path"] for file in files]

    def search(
        self,
        resource: Literal["registered-models", "model-versions"],
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        max_results: int = PAGE_SIZE,
    ) -> list[dict[str, Any]]:
        """Search the registry, page by page.

        :param resource: what to search for.
        :param filter_string: e.g. ``name LIKE 'housing%'``.
        :param order_by: e.g. ``["last_updated_timestamp DESC"]``.
        :param max_results: the maximum number of results.

        .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#search-modelversions
        """
        criteria = {"filter": filter_string, "order_by": order_by}
        return self._pages("GET", f"{resource}/search", resource.replace("-", "_"), criteria, max_results)

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        max_results: int = PAGE_SIZE,
    ) -> list[dict[str, Any]]:
        """Search active runs, page by page.

        :param experiment_ids: the experiments to search.
        :param filter_string: e.g. ``metrics.rmse < 30000``.
        :param order_by: e.g. ``["attributes.start_time DESC"]``.
        :param max_results: the maximum number of results.

        .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#search-runs
        """
        criteria = {"experiment_ids": experiment_ids, "filter": filter_string, "order_by": order_by}
        return self._pages("POST", "runs/search", "runs", criteria, max_results)

    def search_experiments(
        self,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        max_results: int = PAGE_SIZE,
    ) -> list[dict[str, Any]]:
        """Search active experiments, page by page.

        :param filter_string: e.g. ``name LIKE 'housing%'``.
        :param order_by: e.g. ``["last_update_time DESC"]``.
        :param max_results: the maximum number of results.

        .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#search-experiments
        """
        criteria = {"filter": filter_string, "order_by": order_by}
        return self._pages("POST", "experiments/search", "experiments", criteria, max_results)

    def _pages(
        self, method: str, path: str, key: str, criteria: Mapping[str, Any], max_results: int
    ) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        params = dict(criteria)
        for _ in range(MAX_PAGES):
            params["max_results"] = min(max_results - len(results), PAGE_SIZE)
            page = self.call(method, path, params) if params["max_results"] > 0 else {}
            results += page.get(key, [])
            params["page_token"] = page.get("next_page_token")
            if not params["page_token"]:
                return results
        raise MLflowAPIError(
            f"{method} {path} at {self.base_url}: more than {MAX_PAGES} pages. Use a narrower filter.",
            status_code=200,
        )


def create_once(
    hook: MLflowClientHook, create: Callable[[MLflowClientHook], T], find: Callable[[], T | None]
) -> T:
    """Create something once, even if MLflow's response is lost.

    :param create: sends the request with the hook that it gets, which does not repeat it.
    :param find: returns what the request has created, if it has.
    """
    limits = Limits(hook.connection.timeout, hook.connection.retry_timeout, repeat=False)
    deadline = time.monotonic() + hook.connection.retry_timeout
    for attempt in count():
        try:
            return create(hook.with_limits(limits))
        except MLflowProviderError as error:
            if not error.is_transient or time.monotonic() >= deadline:
                raise
        time.sleep(max(SETTLING_SECONDS, backoff(attempt)))
        if created := find():  # waits until MLflow responds again
            return created
    raise AssertionError  # the loop has no end


def as_tag_list(tags: Tags | None) -> list[dict[str, str]] | None:
    """Return tags as MLflow's list of ``{"key": ..., "value": ...}``.

    :param tags: a mapping, or such a list.
    :raises ValueError: the tags are something else, e.g. a string.
    """
    if not tags:
        return None
    try:
        pairs = tags.items() if isinstance(tags, Mapping) else [(tag["key"], tag["value"]) for tag in tags]
    except (TypeError, KeyError):
        raise ValueError(
            f"Expected a mapping of tag names to values, e.g. {{'data': 'housing'}}, got {str(tags)[:100]!r}."
        ) from None
    return [{"key": str(key), "value": str(value)} for key, value in pairs]


def as_run_uri(uri: str) -> str:
    """Return ``runs:/<run_id>/<path>`` for a place in the artifacts of a run; any other URI unchanged."""
    match = _RUN_ARTIFACT.fullmatch(uri.rstrip("/"))
    return f"runs:/{match[1]}/{match[2]}" if match else uri


def _parse_run_uri(uri: str) -> tuple[str, str]:
    run_id, _, path = uri.removeprefix("runs:/").rstrip("/").partition("/")
    return run_id, path


def equals(field: str, value: str) -> str:
    """Return a filter of MLflow for a value.

    A value with both kinds of quotes cannot be written in a filter. The filter then also finds values that
    differ in one of them.
    """
    if "'" not in value:
        return f"{field} = '{value}'"
    if '"' not in value:
        return f'{field} = "{value}"'
    any_character = value.replace('"', "_")
    return f'{field} LIKE "{any_character}"'
