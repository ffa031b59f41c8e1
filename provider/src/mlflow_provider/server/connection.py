"""The one place that reads an Airflow connection to MLflow."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException, conf

from mlflow_provider.exceptions import MLflowConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Connection

log = logging.getLogger(__name__)

# `http` is what provider 1.1.0 told people to choose. Airflow stores it as `generic` where no
# provider registers `http`, so that has to be accepted too. `https` is what a URI `https://...` makes of it.
CONNECTION_TYPES = ("mlflow", "http", "https", "generic")

# What Extra may hold; the connection form in get_provider_info.py has a field for each.
OPTIONS = ("ui_url", "artifact_conn_id", "registry_uri", "workspace", "verify", "timeout", "retries")

# What Airflow's own `http` hook takes from Extra as options; all else it sends as headers, as 1.1.0 did.
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
# Without hyphens, as a header that carries a secret has them: CF-Access-Client-Secret.
_SECRET = re.compile(r"[^-]*(password|passwd|passphrase|secret|private_?key|access_?key)[^-]*", re.IGNORECASE)

# AWS, GCP and Azure: https://docs.databricks.com/aws/en/workspace/workspace-details
DATABRICKS_DOMAINS = (
    ".cloud.databricks.com",
    ".cloud.databricks.us",
    ".gcp.databricks.com",
    ".azuredatabricks.net",
    ".databricks.azure.us",
    ".databricks.azure.cn",
)

DEFAULT_PORTS = {"http": 80, "https": 443}

MAX_HOST_NAME_LENGTH = 253  # RFC 1035

# `::1`: Airflow hands an IPv6 address on without the brackets that it needs in a URL.
_BARE_IPV6 = re.compile(r"(?<=://)[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F.]*(?=[/?#]|$)")

# As MLflow's own: an answer may take this long while the server writes a large artifact to its store.
DEFAULT_TIMEOUT_SECONDS = 120.0
# MLflow's own 7 would wait four minutes for a server that is down; 4 wait half a minute.
DEFAULT_RETRIES = 4


@dataclass(frozen=True)
class MLflowConnection:
    """The MLflow server that an Airflow connection leads to.

    :param conn_id: the Airflow connection it was read from.
    :param url: address of the server without a trailing slash, e.g. ``http://mlflow:5000``.
    :param is_databricks: whether the server is a Databricks workspace.
    :param username: user name for basic authentication.
    :param password: password for basic authentication.
    :param token: bearer token; excludes user name and password.
    :param ui_url: address a browser uses, where it differs from ``url``.
    :param registry_uri: where the model registry is, where that is not MLflow's default: the address of
        another MLflow server with the same login, or ``databricks`` or ``databricks-uc``.
    :param workspace: MLflow's workspace (MLflow 3.10 and later); the server's default one by default.
    :param verify: whether to check the server's TLS certificate, or the path of a CA bundle.
    :param timeout: seconds to wait for an answer.
    :param retries: how often to try again when the server is down, overloaded or failing.
    :param headers: HTTP headers for REST calls (connections of type ``http`` only).
    :param artifact_environment: variables for MLflow's artifact client: S3 keys, region, endpoint.
    :param get_connection: looks the Airflow connection up; None if it is not to be read again.
    """

    conn_id: str
    url: str
    is_databricks: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ui_url: str = ""
    registry_uri: str | None = None
    workspace: str | None = None
    verify: bool | str = True
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    retries: int = DEFAULT_RETRIES
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    artifact_environment: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    get_connection: Callable[[str], Connection] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def read(cls, conn_id: str, get_connection: Callable[[str], Connection]) -> MLflowConnection:
        """Read an Airflow connection and, if it names one, the connection to its artifact store.

        :param conn_id: connection of type ``mlflow`` or ``http``.
        :param get_connection: looks a connection up, e.g. ``BaseHook.get_connection``.
        :raises MLflowConfigurationError: a connection is missing, or a field of it is missing,
            malformed, unknown or contradicts another.
        """
        conn = _look_up(conn_id, get_connection, hint="host is the MLflow server, e.g. http://localhost:5000")
        if (conn.conn_type or "mlflow") not in CONNECTION_TYPES:
            problem = f"{conn.conn_type!r}; choose 'mlflow'."
            raise MLflowConfigurationError(conn_id, "Connection Type", problem)

        url = _url(conn)
        is_databricks = (url.hostname or "").endswith(DATABRICKS_DOMAINS)
        options, headers = _extra(conn)
        artifact_conn_id = options.get("artifact_conn_id")
        return cls(
            conn_id=conn_id,
            url=url.geturl(),
            is_databricks=is_databricks,
            **_credentials(conn, is_databricks=is_databricks),
            ui_url=_ui_url(conn_id, options.get("ui_url") or _configured_ui_url(conn_id, url.geturl())),
            registry_uri=_registry_uri(conn_id, options.get("registry_uri"), is_databricks=is_databricks),
            workspace=_workspace(conn_id, options.get("workspace"), is_databricks=is_databricks),
            verify=_verify(options.get("verify", True)),
            timeout=_number(conn_id, "timeout", options.get("timeout", DEFAULT_TIMEOUT_SECONDS), at_least=1),
            retries=int(_number(conn_id, "retries", options.get("retries", DEFAULT_RETRIES), at_least=0)),
            headers=headers,
            artifact_environment=(
                aws_environment(artifact_conn_id, get_connection) if artifact_conn_id else {}
            ),
            get_connection=get_connection,
        )

    def with_new_login(self) -> MLflowConnection | None:
        """Read the Airflow connection again, and return this one with the login that it has now.

        :return: None if the login is the same, or is for another server, which alone may get it.
        """
        if not self.get_connection:
            return None
        try:
            now = MLflowConnection.read(self.conn_id, self.get_connection)
        except Exception:  # the server's refusal says more
            log.debug("Connection %r cannot be read again.", self.conn_id, exc_info=True)
            return None
        renewed = replace(self, username=now.username, password=now.password, token=now.token)
        return renewed if now.url == self.url and renewed != self else None

    @property
    def has_login(self) -> bool:
        """Whether requests carry a login."""
        return bool(self.username or self.token)

    @property
    def tracking_uri(self) -> str:
        """What ``mlflow.set_tracking_uri`` takes."""
        return "databricks" if self.is_databricks else self.url

    def registry_url(self) -> str:
        """Return the address at which the model registry answers REST calls, without a trailing slash.

        :raises MLflowConfigurationError: it is in Unity Catalog, as it is by default on Databricks.
        """
        if not self.is_databricks:
            return self.registry_uri or self.url
        if self.registry_uri == "databricks":
            return self.url
        problem = (
            "the registry is in Unity Catalog, which MLflow's REST API does not reach; use the mlflow "
            "package, e.g. hook.client, or enter databricks for the registry of the workspace."
        )
        raise MLflowConfigurationError(self.conn_id, "Extra, registry_uri", problem)

    def page(self, path: str) -> str:
        """Return the address of a page of MLflow in a browser.

        :param path: the page, e.g. ``experiments/1``; empty for the first one.
        """
        if self.is_databricks:
            return f"{self.ui_url}/ml/{path}"
        # Without it, MLflow 3.17 shows its pages for GenAI, where runs and models are not to be found.
        return f"{self.ui_url}/#/{path}?workflowType=machine_learning"

    @property
    def environment(self) -> dict[str, str | None]:
        """The variables MLflow's client reads; None stands for one that must not be set.

        Source: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.environment_variables.html
        """
        return {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_REGISTRY_URI": self.registry_uri,
            "MLFLOW_WORKSPACE": self.workspace,
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.password,
            "MLFLOW_TRACKING_TOKEN": None if self.is_databricks else self.token,
            "DATABRICKS_HOST": self.url if self.is_databricks else None,
            "DATABRICKS_TOKEN": self.token if self.is_databricks else None,
            "MLFLOW_TRACKING_INSECURE_TLS": "true" if self.verify is False else None,
            "MLFLOW_TRACKING_SERVER_CERT_PATH": self.verify if isinstance(self.verify, str) else None,
            "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{self.timeout:.0f}",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(self.retries),
            **self.artifact_environment,
        }


def _look_up(conn_id: str, get_connection: Callable[[str], Connection], hint: str) -> Connection:
    try:
        return get_connection(conn_id)
    except AirflowNotFoundException:
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        raise MLflowConfigurationError(
            conn_id,
            "Connection ID",
            f"there is no such connection; create it under Admin > Connections or in {variable}: {hint}.",
        ) from None


def _url(conn: Connection) -> SplitResult:
    """Join host, schema and port, each of which may or may not repeat what another says."""
    invalid = partial(MLflowConfigurationError, conn.conn_id)
    host = (conn.host or "").strip()
    if not host:
        raise invalid("Host", "empty; enter the address of the server, e.g. http://localhost:5000.")
    if conn.schema not in (None, "", "http", "https"):
        raise invalid("Schema", f"{conn.schema!r}; enter http or https, or nothing.")

    if "://" not in host:
        bare = host.split("/")[0].split(":")[0].lower()
        is_https = conn.conn_type == "https" or bare.endswith(DATABRICKS_DOMAINS)
        scheme = conn.schema or ("https" if is_https else "http")
        host = f"{scheme}://{host}"
    try:
        parts = urlsplit(_BARE_IPV6.sub(r"[\g<0>]", host))
        host_port = parts.port
    except ValueError:
        raise invalid("Host", "not the address of a server; enter e.g. http://localhost:5000.") from None
    if parts.scheme not in ("http", "https"):
        raise invalid("Host", f"scheme {parts.scheme!r}; a worker reaches MLflow by http or https.")
    if conn.schema and conn.schema != parts.scheme:
        raise invalid("Schema", f"{conn.schema!r}, but Host says {parts.scheme!r}; enter one of them only.")
    if parts.username or parts.password or "@" in parts.path:  # after one slash instead of two
        raise invalid("Host", "holds a login; enter it as Login and Password, which Airflow keeps secret.")
    if conn.port and host_port and conn.port != host_port:
        raise invalid("Port", f"{conn.port}, but Host says {host_port}; enter one of them only.")
    if not parts.hostname or len(parts.hostname) > MAX_HOST_NAME_LENGTH:
        raise invalid("Host", "has no host name, or one that is too long; enter e.g. http://localhost:5000.")

    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = conn.port or host_port
    # Airflow 3.3's form wants a port, also the default one.
    address = name if port in (None, 0, DEFAULT_PORTS[parts.scheme]) else f"{name}:{port}"
    # An address pasted from the browser brings a query and a fragment along, on Databricks a path too.
    path = "" if name.endswith(DATABRICKS_DOMAINS) else parts.path.rstrip("/")
    return SplitResult(parts.scheme, address, path, "", "")


def _credentials(conn: Connection, *, is_databricks: bool) -> dict[str, str | None]:
    invalid = partial(MLflowConfigurationError, conn.conn_id)
    login, password = conn.login or None, conn.password or None
    if is_databricks and login != "token":
        raise invalid("Login", "Databricks takes the word 'token' here.")
    if login == "token" and not password:
        raise invalid("Password", "empty; with login 'token' enter the access token.")
    # The other types are read as 1.1.0 did: a user name alone is sent, a password alone is not.
    is_strict = conn.conn_type in (None, "mlflow")
    if login and not password and is_strict:
        raise invalid("Password", f"empty; enter the password of {login!r}.")
    if password and not login and is_strict:
        raise invalid("Login", "empty, but there is a password; enter the user name, or 'token' for a token.")
    if login == "token" and password:
        # HTTP allows nothing else; a line break at the end is what a secret read from a file brings along.
        if not re.fullmatch(r"[!-~]+", password):
            raise invalid("Password", "a token has no spaces, line breaks or accents; enter the token alone.")
        return {"token": password}
    return {"username": login, "password": password if login else None}


def _extra(conn: Connection) -> tuple[dict[str, Any], dict[str, str]]:
    """Split Extra into the provider's options and, for type ``http``, HTTP headers."""
    extra = _extra_object(conn)
    # The connection form stores fields that were left blank as null or "".
    options = {key: value for key, value in extra.items() if key in OPTIONS and value not in (None, "")}
    unknown = {key: str(value) for key, value in extra.items() if key not in OPTIONS}
    if unknown and conn.conn_type in (None, "mlflow"):
        problem = f"does not know {', '.join(sorted(unknown))}; it knows {', '.join(OPTIONS)}."
        raise MLflowConfigurationError(conn.conn_id, "Extra", problem)
    return options, _headers(conn.conn_id, unknown)


def _headers(conn_id: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Return what 1.1.0, and Airflow's own ``http`` hook, send as headers, without options and secrets."""
    ignored = {name for name in extra if name in HTTP_OPTIONS or _SECRET.fullmatch(name)}
    if ignored:
        log.warning("Connection %r, field Extra: ignored %s.", conn_id, ", ".join(sorted(ignored)))
    headers = {name: value for name, value in extra.items() if name not in ignored}
    for name, value in headers.items():
        if not re.fullmatch(r"[!-9;-~]+", name) or not re.fullmatch(r"(?! )[ -~\xa0-\xff]*", value):
            problem = "cannot be sent as an HTTP header; correct its name or its value, or remove it."
            raise MLflowConfigurationError(conn_id, f"Extra, {name}", problem)
    return headers


def _extra_object(conn: Connection) -> dict[str, Any]:
    try:
        extra = json.loads(conn.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        problem = 'not a JSON object; enter names and values, as in {"name": "value"}.'
        raise MLflowConfigurationError(conn.conn_id, "Extra", problem)
    return extra


def _ui_url(conn_id: str, value: Any) -> str:
    if urlsplit(str(value)).scheme not in ("http", "https"):  # links to it must run no script
        problem = f"{value!r}; enter an address that starts with http:// or https://."
        raise MLflowConfigurationError(conn_id, "UI address", problem)
    return str(value).rstrip("/")


def _configured_ui_url(conn_id: str, url: str) -> str:
    """Return a server's address in Airflow's setting ``[mlflow] ui_urls``, by default its own."""
    setting = conf.get("mlflow", "ui_urls", fallback="") or "{}"
    try:
        ui_urls = json.loads(setting)
    except ValueError:
        ui_urls = None
    if not isinstance(ui_urls, dict) or not all(isinstance(ui_url, str) for ui_url in ui_urls.values()):
        problem = (
            "Airflow's setting [mlflow] ui_urls (AIRFLOW__MLFLOW__UI_URLS) is not a JSON object of "
            'addresses; enter e.g. {"http://mlflow:5000": "http://localhost:5001"}.'
        )
        raise MLflowConfigurationError(conn_id, "UI address", problem)
    return {server.rstrip("/"): ui_url for server, ui_url in ui_urls.items()}.get(url, url)


def _verify(value: Any) -> bool | str:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def _registry_uri(conn_id: str, value: Any, *, is_databricks: bool) -> str | None:
    uri = str(value or "").strip().rstrip("/")
    if is_databricks:
        valid = "databricks|databricks-uc"
        problem = "enter databricks for the registry of the workspace, or nothing for Unity Catalog."
    else:
        valid = r"https?://[^/@\s]+(/[^@\s]*)?"
        problem = "enter the address of an MLflow server without a login, e.g. http://registry:5000."
    if uri and not re.fullmatch(valid, uri):
        raise MLflowConfigurationError(conn_id, "Extra, registry_uri", problem)
    return uri or None


def _workspace(conn_id: str, value: Any, *, is_databricks: bool) -> str | None:
    workspace = str(value or "").strip()
    invalid = partial(MLflowConfigurationError, conn_id, "Extra, workspace")
    if workspace and is_databricks:
        raise invalid("Databricks has no workspaces of MLflow; enter nothing.")
    # As MLflow has it, and nothing that could not be sent as a header.
    if workspace and not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", workspace):
        raise invalid(f"{workspace!r}; enter small letters, digits and hyphens.")
    return workspace or None


def _number(conn_id: str, name: str, value: Any, *, at_least: int) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not at_least <= number < math.inf:
        raise MLflowConfigurationError(
            conn_id, f"Extra, {name}", f"{value!r}; enter a number from {at_least} up."
        )
    return number


def aws_environment(conn_id: str, get_connection: Callable[[str], Connection]) -> dict[str, str | None]:
    """Turn an AWS or MinIO connection into what MLflow's S3 client reads.

    Fields as in Airflow's Amazon provider: login and password are the key pair, which may stand in Extra as
    ``aws_access_key_id`` and ``aws_secret_access_key`` instead. Extra holds ``aws_session_token``,
    ``region_name`` and ``endpoint_url``; the last may also stand in Host.

    Source: https://airflow.apache.org/docs/apache-airflow-providers-amazon/stable/connections/aws.html
    """
    conn = _look_up(conn_id, get_connection, hint="login and password are the S3 key pair")
    extra = _extra_object(conn)
    key_id = conn.login or extra.get("aws_access_key_id")
    secret_key = conn.password or extra.get("aws_secret_access_key")
    if bool(key_id) != bool(secret_key):
        missing = "Password" if key_id else "Login"
        raise MLflowConfigurationError(
            conn_id, missing, "empty; enter the access key ID as login and the secret access key as password."
        )
    endpoint = extra.get("endpoint_url") or (_url(conn).geturl() if conn.host else None)
    variables = {
        "AWS_DEFAULT_REGION": extra.get("region_name"),
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
    }
    keys: dict[str, str | None] = {}
    if key_id:
        keys = {
            "AWS_ACCESS_KEY_ID": key_id,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_SESSION_TOKEN": extra.get("aws_session_token"),
            "AWS_PROFILE": None,  # would win over the keys
        }
    # What the connection leaves open stays as the worker has it: a region, an instance role.
    return {name: value for name, value in variables.items() if value} | keys
