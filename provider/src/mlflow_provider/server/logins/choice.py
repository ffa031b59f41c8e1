"""Choose the login method that the fields of an Airflow connection describe."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk.log import mask_secret  # newer versions of common-compat also have it

from mlflow_provider.exceptions import MLflowConfigurationError
from mlflow_provider.server import request_auth
from mlflow_provider.server.fields import is_databricks, server_url
from mlflow_provider.server.logins.azure import AzureIdentity
from mlflow_provider.server.logins.databricks import PersonalAccessToken, ServicePrincipal
from mlflow_provider.server.logins.google import GoogleIdentity
from mlflow_provider.server.logins.method import LoginMethod
from mlflow_provider.server.logins.oauth import ClientCredentials
from mlflow_provider.server.logins.password import Password, Token
from mlflow_provider.server.logins.plugin import Plugin
from mlflow_provider.server.logins.sagemaker import ARN, SignedRequests
from mlflow_provider.server.logins.token_file import TokenFile

if TYPE_CHECKING:
    from airflow.sdk import Connection

OPTIONS = ("auth", "token_url", "token_file", "scope", "audience")  # the keys of Extra
# Values of auth that are no plug-in of MLflow, each with the option that it requires.
IDENTITIES: dict[str, tuple[type[GoogleIdentity | AzureIdentity], str, str]] = {
    "google": (
        GoogleIdentity,
        "audience",
        "enter the address of the Cloud Run service, or the client ID of Identity-Aware Proxy",
    ),
    "azure": (AzureIdentity, "scope", "enter the scope of MLflow's application, e.g. api://mlflow/.default"),
}


def choose(conn: Connection, options: Mapping[str, Any], verify: bool | str) -> LoginMethod:
    """Return the login method of a connection.

    :param options: what Extra has.
    :param verify: whether to check certificates, or the path of a CA bundle.
    :raises MLflowConfigurationError: a field is missing, invalid, or contradicts another.
    """
    refuse_others = partial(_refuse_others, conn, options)
    invalid = partial(MLflowConfigurationError, conn.conn_id)
    host = (conn.host or "").strip()
    if host.startswith("arn:"):
        refuse_others("an ARN as Host")
        if not ARN.fullmatch(host):
            problem = "not the ARN of a tracking server or an app of SageMaker's MLflow"
            raise invalid("Host", problem, "copy it from SageMaker")
        return SignedRequests(host)
    url = server_url(conn).geturl()

    auth = options.get("auth")
    if auth in IDENTITIES:
        identity, required, fix = IDENTITIES[auth]
        refuse_others(f"auth {auth!r}", "auth", required)
        if required not in options:
            raise invalid(f"Extra, {required}", f"empty, but auth {auth!r} requires it", fix)
        return identity(options[required])
    if auth:
        refuse_others(f"auth {auth!r}", "auth")
        return Plugin(auth)

    if path := options.get("token_file"):
        refuse_others("token_file", "token_file")
        return TokenFile(path)

    if token_url := options.get("token_url"):
        refuse_others("token_url", "Login", "Password", "token_url", "scope", "audience")
        _check_token_url(conn.conn_id, token_url, url)
        client_id, secret = _client(conn)
        scope, audience = options.get("scope"), options.get("audience")
        return ClientCredentials(client_id, token_url, scope, audience, verify, secret=secret)

    refuse_others("a login without token_url", "Login", "Password")
    if not is_databricks(url):
        return _login_and_password(conn, Token)
    if conn.login == "token":
        return _login_and_password(conn, PersonalAccessToken)
    client_id, secret = _client(conn)
    return ServicePrincipal(client_id, f"{url}/oidc/v1/token", verify=verify, secret=secret)


def _refuse_others(conn: Connection, options: Mapping[str, Any], method: str, *used: str) -> None:
    """Refuse fields of a login that a method does not use."""
    given = {"Login": conn.login, "Password": conn.password, **options}
    for name in ("Login", "Password", *OPTIONS):
        if given.get(name) and name not in used:
            field = f"Extra, {name}" if name in OPTIONS else name
            problem = f"not used with {method}"
            raise MLflowConfigurationError(conn.conn_id, field, problem, "remove one of them")


def _check_token_url(conn_id: str, token_url: str, url: str) -> None:
    invalid = partial(MLflowConfigurationError, conn_id, "Extra, token_url")
    if not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", token_url):
        raise invalid("not a valid address", "enter, for example, https://login.example.com/oauth2/token")
    if token_url.startswith("http:") and urlsplit(token_url).hostname != urlsplit(url).hostname:
        problem = "the client secret would cross the network unencrypted"
        raise invalid(problem, "enter an address that starts with https://")


def _client(conn: Connection) -> tuple[str, str]:
    """Return the client ID and secret."""
    invalid = partial(MLflowConfigurationError, conn.conn_id)
    if not conn.login or conn.login == "token":
        raise invalid("Login", "no client ID", "enter the client ID, and its secret as Password")
    if not conn.password:
        raise invalid("Password", "empty", f"enter the client secret of {conn.login!r}")
    _mask_header(conn.login, conn.password)
    return conn.login, conn.password


def _login_and_password(conn: Connection, token_class: type[Token]) -> LoginMethod:
    invalid = partial(MLflowConfigurationError, conn.conn_id)
    login, password = conn.login or None, conn.password or None
    if login == "token":
        if not password:
            raise invalid("Password", "empty", "with login 'token' enter the access token")
        # HTTP allows nothing else. A secret read from a file often ends with a line break.
        if not re.fullmatch(r"[!-~]+", password):
            problem = "a token contains no spaces, line breaks or accents"
            raise invalid("Password", problem, "enter only the token")
        return token_class(secret=password)
    # The other types are read as in 1.1.0: a user name alone is sent, a password alone is not.
    is_strict = conn.conn_type in (None, "mlflow")
    if login and not password and is_strict:
        raise invalid("Password", "empty", f"enter the password of {login!r}")
    if password and not login and is_strict:
        problem = "empty, but there is a password"
        raise invalid("Login", problem, "enter the user name, or 'token' for a token")
    if login:
        _mask_header(login, password or "")
        return Password(login, secret=password)
    name = request_auth.of_worker()
    return Plugin(name) if name else LoginMethod()


def _mask_header(login: str, password: str) -> None:
    # Airflow masks the password, but not the header that contains it.
    mask_secret(base64.b64encode(f"{login}:{password}".encode()).decode())
