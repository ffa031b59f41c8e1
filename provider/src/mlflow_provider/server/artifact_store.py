"""The artifact store that tasks reach themselves, as described by an Airflow connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlflow_provider.exceptions import MLflowConfigurationError
from mlflow_provider.server.fields import check_text, extra_object, look_up, server_url

if TYPE_CHECKING:
    from airflow.sdk import Connection


def aws_environment(conn_id: str, get_connection: Callable[[str], Connection]) -> dict[str, str | None]:
    """Return the variables that MLflow's S3 client reads for an AWS or MinIO connection.

    The fields are those of Airflow's Amazon provider: login and password are the key pair, or
    ``aws_access_key_id`` and ``aws_secret_access_key`` in Extra. Extra may also have ``aws_session_token``,
    ``region_name`` and ``endpoint_url``; Host may be used for the last one.

    Source: https://airflow.apache.org/docs/apache-airflow-providers-amazon/stable/connections/aws.html
    """
    conn = look_up(conn_id, get_connection, hint="login and password are the S3 key pair")
    extra = extra_object(conn)
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region_name", "endpoint_url")
    check_text(conn_id, {f"Extra, {name}": extra.get(name) for name in names})
    key_id = conn.login or extra.get("aws_access_key_id")
    secret_key = conn.password or extra.get("aws_secret_access_key")
    if bool(key_id) != bool(secret_key):
        missing = "Password" if key_id else "Login"
        fix = "enter the access key ID as login and the secret access key as password"
        raise MLflowConfigurationError(conn_id, missing, "empty", fix)
    endpoint = extra.get("endpoint_url") or (server_url(conn).geturl() if conn.host else None)
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
            "AWS_PROFILE": None,  # would override the keys
        }
    # The worker's own settings apply to the rest: a region, an instance role.
    return {name: value for name, value in variables.items() if value} | keys
