"""The artifact store that tasks reach themselves, as described by an Airflow connection.

MLflow's clients of S3, Google Cloud Storage and Azure take their credentials from environment variables and
from files that these name. Programs that a task starts also find them there, and renew what expires.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk.log import mask_secret  # newer versions of common-compat also have it

from mlflow_provider.exceptions import MLflowConfigurationError
from mlflow_provider.process import mlflow_private
from mlflow_provider.process.environment import environment
from mlflow_provider.server.fields import check_text, extra_object, look_up, server_url, verify

if TYPE_CHECKING:
    from airflow.sdk import Connection

log = logging.getLogger(__name__)

AWS_TEXTS = (
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "profile_name",
    "role_arn",
    "region_name",
    "endpoint_url",
)
AWS_OPTIONS = (*AWS_TEXTS, "assume_role_method", "assume_role_kwargs", "service_config", "verify")
# Of AWS's AssumeRole, with their names in a configuration file.
ROLE_OPTIONS = {
    "DurationSeconds": "duration_seconds",
    "ExternalId": "external_id",
    "RoleSessionName": "role_session_name",
}
# By which AWS's libraries choose credentials.
AWS_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
)
# The connection form always stores num_retries, which is for Airflow's own client.
GOOGLE_OPTIONS = ("key_path", "keyfile_dict", "project", "num_retries")
AZURE_OPTIONS = ("connection_string", "shared_access_key", "account_key", "sas_token")
AZURE_VARIABLES = (
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
)


@dataclass(frozen=True)
class ArtifactStore:
    """The credentials of an artifact store, for MLflow's client.

    :param conn_id: ID of the Airflow connection.
    :param variables: environment variables; None for those that must not be set.
    :param files: contents of files, by the variable that takes their path.
    :param paths: files that must exist where tasks run, by the field that names them.
    :param secrets: parts of the above that must not be shown.
    """

    conn_id: str = ""
    variables: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    paths: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, conn_id: str, get_connection: Callable[[str], Connection]) -> ArtifactStore:
        """Read an Airflow connection of type ``aws``, ``google_cloud_platform`` or ``wasb``.

        :raises MLflowConfigurationError: it is missing, or one of its fields is malformed, contradicts
            another, or cannot be passed to MLflow's client.
        """
        conn = look_up(conn_id, get_connection, hint="login and password are the S3 key pair")
        conn_type = conn.conn_type or "aws"
        if conn_type not in _STORES:
            problem, fix = f"{conn_type!r} is not supported", "choose aws, google_cloud_platform or wasb"
            raise MLflowConfigurationError(conn_id, "Connection Type", problem, fix)
        store = _STORES[conn_type](conn)
        if not (store.secrets or store.files or store.paths or "AWS_PROFILE" in store.variables):
            log.info("Connection %r has no keys; MLflow uses the identity of this worker.", conn_id)
        for secret in store.secrets:
            mask_secret(secret)  # Airflow masks only fields whose names say that they are secret
        return store


@contextmanager
def credentials(store: ArtifactStore) -> Iterator[None]:
    """Set a store's variables for the duration of a block, and write its files, readable by this user only.

    They are removed at the end of the block, also after an error, but not by a forked process.

    :raises MLflowConfigurationError: a file that the connection names cannot be read.
    """
    for name, path in store.paths.items():
        if not os.access(path, os.R_OK):
            problem = f"{path} does not exist on this worker, or cannot be read"
            raise MLflowConfigurationError(store.conn_id, name, problem, "correct the path")
    process, paths = os.getpid(), {}
    try:
        for variable, content in store.files.items():
            descriptor, paths[variable] = tempfile.mkstemp(prefix="airflow-mlflow-")
            os.close(descriptor)
            Path(paths[variable]).write_text(content, encoding="utf-8")
        with environment({**store.variables, **paths}), _renewed_aws_clients():
            yield
    finally:
        if os.getpid() == process:
            for path in paths.values():
                Path(path).unlink(missing_ok=True)


@contextmanager
def _renewed_aws_clients() -> Iterator[None]:
    """Let AWS clients take the keys in the environment of a block, and later the previous ones.

    MLflow caches S3 clients by endpoint, not by keys; boto3 keeps the first keys that it found.
    """
    session = getattr(sys.modules.get("boto3"), "DEFAULT_SESSION", None)
    _reset_aws_clients(None)
    try:
        yield
    finally:
        _reset_aws_clients(session)


def _reset_aws_clients(session: Any) -> None:
    if "mlflow.store.artifact.s3_artifact_repo" in sys.modules:
        with mlflow_private.optional(mlflow_private.S3_CLIENTS):
            mlflow_private.S3_CLIENTS.get().cache_clear()
    if boto3 := sys.modules.get("boto3"):
        boto3.DEFAULT_SESSION = session  # type: ignore[attr-defined]


def _options(conn: Connection, supported: Collection[str]) -> dict[str, Any]:
    """Return the options in Extra, whose names have a prefix if Airflow 2's form stored them."""
    prefix = f"extra__{conn.conn_type}__"
    given = {name.removeprefix(prefix): value for name, value in extra_object(conn).items()}
    return _supported(conn, "Extra, ", given, supported)


def _supported(conn: Connection, place: str, given: Any, supported: Collection[str]) -> dict[str, Any]:
    """Return the options of an object without blank ones, all of which must be supported."""
    if not isinstance(given, dict):
        fix = 'enter names and values, as in {"name": "value"}'
        raise MLflowConfigurationError(conn.conn_id, place.strip("., "), "not a JSON object", fix)
    options = {name: value for name, value in given.items() if value is not None and str(value).strip()}
    for name in sorted(options.keys() - {*supported}):
        raise _unsupported(conn, f"{place}{name}")
    return options


def _unsupported(conn: Connection, name: str) -> MLflowConfigurationError:
    fix = "remove it, or name another connection in artifact_conn_id"
    return MLflowConfigurationError(conn.conn_id, name, "not supported for artifacts", fix)


def _check_lines(conn: Connection, fields: Mapping[str, Any]) -> None:
    """Check the values of fields that become environment variables, or lines of a file."""
    check_text(conn.conn_id, fields)
    for name, value in fields.items():
        if value and not value.strip().isprintable():
            raise MLflowConfigurationError(conn.conn_id, name, "contains a line break", "enter one line")


def _only_one_of(conn: Connection, given: Mapping[str, Any]) -> None:
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        problem = f"there is also {names[0]}"
        raise MLflowConfigurationError(conn.conn_id, names[1], problem, "enter only one of them")


def _aws(conn: Connection) -> ArtifactStore:
    """Return the credentials of a connection for AWS, MinIO or another store with S3's API.

    Source: https://airflow.apache.org/docs/apache-airflow-providers-amazon/stable/connections/aws.html
    """
    options = _options(conn, AWS_OPTIONS)
    _check_lines(conn, {f"Extra, {name}": options.get(name) for name in AWS_TEXTS})
    keys, profile = _aws_keys(conn, options), options.get("profile_name")
    _only_one_of(conn, {"a key pair": keys, "Extra, profile_name": profile})
    host = server_url(conn).geturl() if conn.host else None
    trusted = verify(conn.conn_id, options.get("verify", True))
    bundle = trusted if isinstance(trusted, str) else None
    _check_lines(conn, {"Extra, verify": bundle})
    settings = {
        "AWS_DEFAULT_REGION": options.get("region_name"),
        "MLFLOW_S3_ENDPOINT_URL": _endpoint(conn, options, "s3") or options.get("endpoint_url") or host,
        "AWS_ENDPOINT_URL_STS": _endpoint(conn, options, "sts"),
        "MLFLOW_S3_IGNORE_TLS": "true" if trusted is False else None,
        "AWS_CA_BUNDLE": bundle,
    }
    # The worker's own settings apply to the rest.
    variables: dict[str, str | None] = {name: value for name, value in settings.items() if value}
    if keys or profile or "role_arn" in options:
        variables |= dict.fromkeys(AWS_VARIABLES)
    files = {}
    if "role_arn" in options:
        variables["AWS_PROFILE"] = role_profile = f"mlflow-{uuid.uuid4().hex}"
        files["AWS_CONFIG_FILE"] = _aws_config(conn, options, keys, role_profile)
    elif profile:
        variables |= {"AWS_PROFILE": profile, "AWS_WEB_IDENTITY_TOKEN_FILE": None}  # would override it
    else:
        variables |= {name.upper(): value for name, value in keys.items()}
    secrets = [value for name, value in keys.items() if name != "aws_access_key_id"]
    paths = {"Extra, verify": bundle} if bundle else {}
    return ArtifactStore(conn.conn_id, variables, files, paths, tuple(secrets))


def _aws_keys(conn: Connection, options: Mapping[str, Any]) -> dict[str, str]:
    keys = {
        "aws_access_key_id": conn.login or options.get("aws_access_key_id"),
        "aws_secret_access_key": conn.password or options.get("aws_secret_access_key"),
        "aws_session_token": options.get("aws_session_token"),
    }
    fields = {"Login": keys["aws_access_key_id"], "Password": keys["aws_secret_access_key"]}
    _check_lines(conn, fields)
    for name, value in fields.items():
        if any(keys.values()) and not value:
            fix = "enter the access key ID as login and the secret access key as password"
            raise MLflowConfigurationError(conn.conn_id, name, "empty", fix)
    return {name: value for name, value in keys.items() if value}


def _endpoint(conn: Connection, options: Mapping[str, Any], service: str) -> str | None:
    place, services = "Extra, service_config.", options.get("service_config", {})
    config = _supported(conn, place, services, supported=services).get(service, {})
    config = _supported(conn, f"{place}{service}.", config, supported=["endpoint_url"])
    _check_lines(conn, {f"{place}{service}.{name}": value for name, value in config.items()})
    return config.get("endpoint_url")


def _aws_config(conn: Connection, options: Mapping[str, Any], keys: Mapping[str, str], profile: str) -> str:
    """Return a configuration file with a profile that assumes a role, and the profiles of this worker.

    AWS's libraries renew the credentials of such a profile by themselves.

    Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-assume-role-credentials.html
    """
    if (method := options.get("assume_role_method", "assume_role")) != "assume_role":
        problem, fix = f"{method!r} is not supported", "enter assume_role, or nothing"
        raise MLflowConfigurationError(conn.conn_id, "Extra, assume_role_method", problem, fix)
    place = "Extra, assume_role_kwargs."
    arguments = _supported(conn, place, options.get("assume_role_kwargs", {}), ROLE_OPTIONS)
    arguments = {name: str(value) for name, value in arguments.items()}
    _check_lines(conn, {f"{place}{name}": value for name, value in arguments.items()})

    role = {"role_arn": options["role_arn"]}
    role |= {ROLE_OPTIONS[name]: value for name, value in arguments.items()}
    source = f"{profile}-source"
    sections = {profile: role}
    if keys:
        role["source_profile"] = source
        sections[source] = dict(keys)
    elif "profile_name" in options:
        role["source_profile"] = options["profile_name"]
    elif "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ:  # a service account of Kubernetes
        role["source_profile"] = source
        names = ("role_arn", "web_identity_token_file")
        sections[source] = {name: os.environ.get(f"AWS_{name.upper()}", "") for name in names}
    elif any(name.startswith("AWS_CONTAINER_CREDENTIALS_") for name in os.environ):
        role["credential_source"] = "EcsContainer"
    else:
        role["credential_source"] = "Ec2InstanceMetadata"

    worker = Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser()
    lines = [worker.read_text()] if worker.is_file() and os.access(worker, os.R_OK) else []
    for section, settings in sections.items():
        lines += [f"[profile {section}]", *(f"{name} = {value.strip()}" for name, value in settings.items())]
    return "\n".join(lines) + "\n"


def _google(conn: Connection) -> ArtifactStore:
    """Return the credentials of a connection for Google Cloud.

    Source: https://airflow.apache.org/docs/apache-airflow-providers-google/stable/connections/gcp.html
    """
    options = _options(conn, GOOGLE_OPTIONS)
    for name, value in {"Host": conn.host, "Login": conn.login, "Password": conn.password}.items():
        if value:
            raise _unsupported(conn, name)
    path, key = options.get("key_path"), options.get("keyfile_dict")
    _only_one_of(conn, {"Extra, key_path": path, "Extra, keyfile_dict": key})
    _check_lines(conn, {"Extra, key_path": path, "Extra, project": options.get("project")})
    variables = {"GOOGLE_CLOUD_PROJECT": options["project"]} if "project" in options else {}
    if path:
        variables["GOOGLE_APPLICATION_CREDENTIALS"] = path
        return ArtifactStore(conn.conn_id, variables, paths={"Extra, key_path": path})
    if key:
        content, secrets = _google_key(conn, key)
        return ArtifactStore(
            conn.conn_id, variables, {"GOOGLE_APPLICATION_CREDENTIALS": content}, {}, secrets
        )
    return ArtifactStore(conn.conn_id, variables)


def _google_key(conn: Connection, value: Any) -> tuple[str, tuple[str, ...]]:
    """Return the content of a key file, and its secrets."""
    try:
        key = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        key = None
    if not isinstance(key, dict) or not isinstance(key.get("type"), str):
        fix = "enter the content of the file that Google Cloud created"
        raise MLflowConfigurationError(conn.conn_id, "Extra, keyfile_dict", "not a key of Google Cloud", fix)
    secrets = [key.get(secret) for secret in ("private_key", "client_secret", "refresh_token")]
    return json.dumps(key), tuple(secret for secret in secrets if isinstance(secret, str))


def _azure(conn: Connection) -> ArtifactStore:
    """Return the credentials of a connection for Azure Blob Storage.

    Source: https://airflow.apache.org/docs/apache-airflow-providers-microsoft-azure/stable/connections/wasb.html
    """
    options = _options(conn, AZURE_OPTIONS)
    _check_lines(conn, {f"Extra, {name}": value for name, value in options.items()})
    keys = {f"Extra, {name}": value for name, value in options.items()}
    if conn.password:
        keys["Password"] = conn.password
    _only_one_of(conn, keys)
    if not keys:
        return ArtifactStore(conn.conn_id)
    [(name, key)] = keys.items()
    variables: dict[str, str | None] = dict.fromkeys(AZURE_VARIABLES)
    if name == "Extra, connection_string":
        _only_one_of(conn, {name: key, "Host": conn.host, "Login": conn.login})
        text = key
    elif name == "Extra, sas_token":
        url, _, token = key.rpartition("?")
        text = f"BlobEndpoint={url or _azure_account(conn)};SharedAccessSignature={token}"
        variables["AZURE_STORAGE_SAS_TOKEN"] = token  # for abfss://
    else:
        url = _azure_account(conn)
        account = conn.login or str(urlsplit(url).hostname).split(".")[0]
        text = f"BlobEndpoint={url};AccountName={account};AccountKey={key}"
    variables["AZURE_STORAGE_CONNECTION_STRING"] = text
    parts = re.findall(r"(?:AccountKey|SharedAccessSignature|sig)=([^;&]+)", text)
    return ArtifactStore(conn.conn_id, variables, secrets=(key, text, *parts))


def _azure_account(conn: Connection) -> str:
    """Return the address of a storage account, of which a name in Host or Login is enough."""
    host = (conn.host or conn.login or "").strip()
    url = host if "://" in host else f"https://{host if '.' in host else f'{host}.blob.core.windows.net'}"
    if not host or not re.fullmatch(r"https?://[^\s;@?#]+", url):
        fix = "enter its address, or its name as Login"
        raise MLflowConfigurationError(conn.conn_id, "Host", "not the address of a storage account", fix)
    return url


_STORES = {"aws": _aws, "s3": _aws, "generic": _aws, "google_cloud_platform": _google, "wasb": _azure}
