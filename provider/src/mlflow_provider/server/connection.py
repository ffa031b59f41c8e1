"""The one place that reads an Airflow connection to MLflow."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import conf

from mlflow_provider.exceptions import MLflowConfigurationError, MLflowProviderError
from mlflow_provider.get_provider_info import get_provider_info
from mlflow_provider.server import request_headers
from mlflow_provider.server.artifact_store import ArtifactStore
from mlflow_provider.server.fields import check_text, extra_object, is_databricks, look_up, server_url, verify
from mlflow_provider.server.limits import DEFAULT_RETRY_TIMEOUT_SECONDS, DEFAULT_TIMEOUT_SECONDS
from mlflow_provider.server.logins import choice
from mlflow_provider.server.logins.method import LoginMethod
from mlflow_provider.server.logins.sagemaker import SignedRequests

if TYPE_CHECKING:
    from airflow.sdk import Connection

log = logging.getLogger(__name__)

# Provider 1.1.0 required `http`. Airflow stores it as `generic` if no provider registers `http`, and turns a
# URI `https://...` into `https`.
CONNECTION_TYPES = ("mlflow", "http", "https", "generic")

# The keys of Extra: the fields of the connection form, and one of earlier versions.
OPTIONS = (*get_provider_info()["connection-types"][0]["conn-fields"], "retries")

NOT_TEXT = ("verify", "timeout", "retry_timeout", "retries")

# The options of Airflow's own `http` hook in Extra; it sends all others as headers, as 1.1.0 did.
# https://airflow.apache.org/docs/apache-airflow-providers-http/stable/connections/http.html
HTTP_OPTIONS = (
    "allow_redirects",
    "auth_kwargs",
    "auth_type",
    "cert",
    "check_response",
    "headers",
    "max_redirects",
    "proxies",
    "proxy",
    "stream",
    "trust_env",
    "verify_ssl",
)
# Names with hyphens are headers, which may carry a secret: CF-Access-Client-Secret.
_SECRET = re.compile(r"[^-]*(password|passwd|passphrase|secret|private_?key|access_?key)[^-]*", re.IGNORECASE)

MAX_RETRIES = 10  # which MLflow's client accepts


def is_enabled() -> bool:
    """Return Airflow's setting ``[mlflow] enabled``."""
    return conf.getboolean("mlflow", "enabled", fallback=True)


@dataclass(frozen=True)
class MLflowConnection:
    """An MLflow server, as described by an Airflow connection.

    :param conn_id: ID of the Airflow connection.
    :param url: address of the server without a trailing slash, e.g. ``http://mlflow:5000``.
    :param is_databricks: whether the server is a Databricks workspace.
    :param login: how requests log in.
    :param ui_url: address that browsers use.
    :param registry_uri: place of the model registry if it is not MLflow's default: the address of another
        MLflow server with the same login, or ``databricks`` or ``databricks-uc``.
    :param workspace: MLflow's workspace (MLflow 3.10 and later); the server's default one by default.
    :param verify: whether to check the server's TLS certificate, or the path of a CA bundle.
    :param client_cert: path of a PEM file with the client's certificate and key.
    :param timeout: seconds in which a response must be complete.
    :param retry_timeout: seconds in which a request is retried while the server is down, busy or failing.
    :param headers: HTTP headers for all requests (connections of type ``http`` only).
    :param artifact_store: credentials for MLflow's artifact client.
    :param get_connection: looks up the Airflow connection; None if it must not be read again.
    """

    conn_id: str
    url: str
    is_databricks: bool = False
    login: LoginMethod = field(default_factory=LoginMethod)
    ui_url: str = ""
    registry_uri: str | None = None
    workspace: str | None = None
    verify: bool | str = True
    client_cert: str | None = None
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    retry_timeout: float = DEFAULT_RETRY_TIMEOUT_SECONDS
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    artifact_store: ArtifactStore = field(default_factory=ArtifactStore)
    get_connection: Callable[[str], Connection] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def read(cls, conn_id: str, get_connection: Callable[[str], Connection]) -> MLflowConnection:
        """Read an Airflow connection and the connection to its artifact store, if it names one.

        :param conn_id: connection of type ``mlflow`` or ``http``.
        :param get_connection: looks up a connection, e.g. ``BaseHook.get_connection``.
        :raises MLflowConfigurationError: a connection is missing, or one of its fields is missing,
            malformed, unknown or contradicts another.
        :raises MLflowLoginError: Host is an ARN, and the package for it is not installed here.
        :raises MLflowProviderError: Airflow's setting ``[mlflow] enabled`` is false.
        """
        if not is_enabled():
            raise MLflowProviderError(
                "MLflow is switched off by Airflow's setting [mlflow] enabled. "
                "To use it, set AIRFLOW__MLFLOW__ENABLED=True."
            )
        conn = look_up(conn_id, get_connection, hint="host is the MLflow server, e.g. http://localhost:5000")
        if (conn.conn_type or "mlflow") not in CONNECTION_TYPES:
            problem = f"{conn.conn_type!r} is not supported"
            raise MLflowConfigurationError(conn_id, "Connection Type", problem, "choose 'mlflow'")

        options, headers = _extra(conn)
        verified = verify(conn_id, options.get("verify", True))
        login = choice.choose(conn, options, verified)
        url = login.url if isinstance(login, SignedRequests) else server_url(conn).geturl()
        on_databricks = is_databricks(url)
        artifact_conn_id = options.get("artifact_conn_id")
        return cls(
            conn_id=conn_id,
            url=url,
            is_databricks=on_databricks,
            login=login,
            ui_url=_ui_url(conn_id, options.get("ui_url") or _configured_ui_url(conn_id, url)),
            registry_uri=_registry_uri(conn_id, options.get("registry_uri", ""), on_databricks),
            workspace=_workspace(conn_id, options.get("workspace", ""), on_databricks),
            verify=verified,
            client_cert=options.get("client_cert"),
            timeout=_number(conn_id, "timeout", options.get("timeout", DEFAULT_TIMEOUT_SECONDS), at_least=1),
            retry_timeout=_retry_timeout(conn_id, options),
            headers=headers,
            artifact_store=(
                ArtifactStore.read(artifact_conn_id, get_connection) if artifact_conn_id else ArtifactStore()
            ),
            get_connection=get_connection,
        )

    def read_login_again(self, previous: LoginMethod) -> LoginMethod | None:
        """Read the Airflow connection again, and return its login if that is no longer the previous one.

        :return: also None if the connection is for another server by now.
        """
        if not self.get_connection:
            return None
        try:
            new = MLflowConnection.read(self.conn_id, self.get_connection)
        except Exception:  # the caller reports that the server rejected the login
            log.debug("Could not read connection %r again.", self.conn_id, exc_info=True)
            return None
        if new.url != self.url or new.login == previous:
            return None
        log.info("Login of connection %r has changed; using the new one.", self.conn_id)
        return new.login

    @property
    def tracking_uri(self) -> str:
        """The argument for ``mlflow.set_tracking_uri``."""
        if isinstance(self.login, SignedRequests):
            return self.login.arn
        return "databricks" if self.is_databricks else self.url

    def registry_url(self, *, aliases: bool = False) -> str:
        """Return the address of the model registry's REST API, without a trailing slash.

        :param aliases: whether the request is about aliases, which the registry of a Databricks workspace
            lacks.
        :raises MLflowConfigurationError: the registry is in Unity Catalog, the default on Databricks, or has
            no aliases.
        """
        if not self.is_databricks:
            return self.registry_uri or self.url
        if self.registry_uri != "databricks":
            problem = "the registry is in Unity Catalog, which MLflow's REST API does not reach"
            fix = "use the mlflow package, e.g. hook.client, or enter databricks for the workspace's registry"
        elif aliases:
            problem = "the registry of the Databricks workspace has no aliases"
            fix = "use stages, or leave the field empty and use the mlflow package, e.g. hook.client"
        else:
            return self.url
        raise MLflowConfigurationError(self.conn_id, "Extra, registry_uri", problem, fix)

    def page(self, path: str) -> str:
        """Return the address of a page of MLflow in a browser.

        :param path: the page, e.g. ``experiments/1``; empty for the start page. Names in it are quoted.
        """
        path = quote(path, safe="/%")  # IDs come from the server
        if self.is_databricks:
            return f"{self.ui_url}/ml/{path}"
        # By default MLflow 3.17 opens its GenAI view, which shows neither runs nor models. The start page has
        # no view in its address, because only then the browser remembers the one that a person chooses.
        query = {"workflowType": "machine_learning"} if path else {}
        if self.workspace:  # which MLflow's pages read from here only
            query["workspace"] = self.workspace
        return f"{self.ui_url}/#/{path}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")

    @property
    def environment(self) -> dict[str, str | None]:
        """The variables that MLflow's client and its plugins read; None for those that must not be set.

        Source: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.environment_variables.html
        """
        return {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_REGISTRY_URI": self.registry_uri,
            "MLFLOW_WORKSPACE": self.workspace,
            **self.login.environment,
            "DATABRICKS_HOST": self.url if self.is_databricks else None,
            "MLFLOW_TRACKING_INSECURE_TLS": "true" if self.verify is False else None,
            "MLFLOW_TRACKING_SERVER_CERT_PATH": self.verify if isinstance(self.verify, str) else None,
            "MLFLOW_TRACKING_CLIENT_CERT_PATH": self.client_cert,
            "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{self.timeout:.0f}",
            **self.retry_environment,
            request_headers.VARIABLE: json.dumps(self.headers) if self.headers else None,
        }

    @property
    def retry_environment(self) -> dict[str, str | None]:
        """The variables with which MLflow's client retries for ``retry_timeout`` or a little longer."""
        # The sum of its waits, 0, 4, 8, 16, ... seconds, is 2 ** (retries + 1) - 4.
        retries = math.ceil(math.log2(self.retry_timeout / 2 + 2)) if self.retry_timeout else 0
        return {
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(min(retries, MAX_RETRIES)),
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "2",
            "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "2.0",
            # It would replace the growing waits, so that `Retry-After: 1` ends all retries within seconds.
            "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
        }


def _extra(conn: Connection) -> tuple[dict[str, Any], dict[str, str]]:
    """Split Extra into the provider's options and, for type ``http``, HTTP headers."""
    extra = extra_object(conn)
    # The connection form stores blank fields as null or "".
    options = {key: value for key, value in extra.items() if key in OPTIONS and value not in (None, "")}
    texts = {key: value for key, value in options.items() if key not in NOT_TEXT or isinstance(value, str)}
    check_text(conn.conn_id, {f"Extra, {key}": value for key, value in texts.items()})
    unknown = {key: str(value) for key, value in extra.items() if key not in OPTIONS}
    if unknown and conn.conn_type in (None, "mlflow"):
        problem = f"unknown: {', '.join(sorted(unknown))}"
        raise MLflowConfigurationError(conn.conn_id, "Extra", problem, f"use {', '.join(OPTIONS)}")
    return options, _headers(conn.conn_id, unknown)


def _headers(conn_id: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that 1.1.0 and Airflow's own ``http`` hook send, without options and secrets."""
    ignored = {name for name in extra if name in HTTP_OPTIONS or _SECRET.fullmatch(name)}
    if ignored:
        log.warning("Connection %r, field Extra: ignored %s.", conn_id, ", ".join(sorted(ignored)))
    headers = {name: value for name, value in extra.items() if name not in ignored}
    for name, value in headers.items():
        if not re.fullmatch(r"[!-9;-~]+", name) or not re.fullmatch(r"(?! )[ -~\xa0-\xff]*", value):
            fix = "correct its name or its value, or remove it"
            raise MLflowConfigurationError(conn_id, f"Extra, {name}", "cannot be sent as an HTTP header", fix)
    return headers


def _ui_url(conn_id: str, value: str) -> str:
    # Links to it must run no script. It may contain a login, which must not be shown.
    if not re.fullmatch(r"https?://[^@]+", value, re.IGNORECASE) or not value.isprintable():
        fix = "enter an address that starts with http:// or https:// and has no login"
        raise MLflowConfigurationError(conn_id, "UI address", "not a valid web address", fix)
    return value.rstrip("/")


def _configured_ui_url(conn_id: str, url: str) -> str:
    """Return a server's address in Airflow's setting ``[mlflow] ui_urls``; by default its own."""
    try:
        ui_urls = json.loads(conf.get("mlflow", "ui_urls", fallback="") or "{}")
        return {server.rstrip("/"): ui_url.rstrip("/") for server, ui_url in ui_urls.items()}.get(url, url)
    except (ValueError, AttributeError):  # not JSON, not an object, or not one of texts
        problem = (
            "Airflow's setting [mlflow] ui_urls (AIRFLOW__MLFLOW__UI_URLS) is not a JSON object of addresses"
        )
        fix = 'enter, for example, {"http://mlflow:5000": "http://localhost:5001"}'
        raise MLflowConfigurationError(conn_id, "UI address", problem, fix) from None


def _registry_uri(conn_id: str, value: str, on_databricks: bool) -> str | None:
    uri = value.strip().rstrip("/")
    if on_databricks:
        valid = "databricks|databricks-uc"
        fix = "enter databricks for the registry of the workspace, or nothing for Unity Catalog"
    else:
        valid = r"https?://[^/@\s]+(/[^@\s]*)?"
        fix = "enter the address of an MLflow server without a login, e.g. http://registry:5000"
    if uri and not re.fullmatch(valid, uri):  # it may contain a login
        raise MLflowConfigurationError(conn_id, "Extra, registry_uri", "not a valid registry", fix)
    return uri or None


def _workspace(conn_id: str, value: str, on_databricks: bool) -> str | None:
    workspace = value.strip()
    invalid = partial(MLflowConfigurationError, conn_id, "Extra, workspace")
    if workspace and on_databricks:
        raise invalid("Databricks has no MLflow workspaces", "enter nothing")
    # MLflow's own rule.
    if workspace and not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", workspace):
        raise invalid(f"{workspace!r} is not a valid name", "use lowercase letters, digits and hyphens")
    return workspace or None


def _number(conn_id: str, name: str, value: Any, *, at_least: int) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not at_least <= number < math.inf:
        problem, fix = f"{value!r} is not a valid number", f"enter a number of at least {at_least}"
        raise MLflowConfigurationError(conn_id, f"Extra, {name}", problem, fix)
    return number


def _retry_timeout(conn_id: str, options: Mapping[str, Any]) -> float:
    """Return the seconds of ``retry_timeout``, or of ``retries`` after waits of 2, 4, 8, ... seconds."""
    if "retries" not in options or "retry_timeout" in options:
        seconds = options.get("retry_timeout", DEFAULT_RETRY_TIMEOUT_SECONDS)
        return _number(conn_id, "retry_timeout", seconds, at_least=0)
    retries = int(_number(conn_id, "retries", options["retries"], at_least=0))
    return 2.0 ** (min(retries, MAX_RETRIES) + 1) - 2
