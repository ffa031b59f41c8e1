"""Every common form of a connection is accepted, and errors name the invalid field."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, redact
from airflow.sdk import Connection

from mlflow_provider.exceptions import MLflowConfigurationError
from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.server.artifact_store import ArtifactStore
from mlflow_provider.server.connection import (
    CONNECTION_TYPES,
    DEFAULT_RETRY_TIMEOUT_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    HTTP_OPTIONS,
    MLflowConnection,
)
from mlflow_provider.server.logins.method import LoginMethod
from mlflow_provider.server.logins.password import Password, Token

PASSWORD = "s3cret-pa55word"
NO_LOGIN = {"login": None, "password": None}
TOKEN_URL = "https://login.example/token"
DATABRICKS = {"host": "https://dbc-a1b2.cloud.databricks.com", "login": "token", "password": PASSWORD}


def read(store: dict[str, Any] | None = None, **fields: Any) -> MLflowConnection:
    """Read ``mlflow_default`` with these fields; ``store`` has those of a connection ``minio_default``."""
    connections = {"mlflow_default": fields} | ({"minio_default": store} if store else {})

    def get_connection(conn_id: str) -> Connection:
        if conn_id not in connections:
            raise AirflowNotFoundException(conn_id)
        values = {"conn_type": "mlflow", **connections[conn_id]}
        if isinstance(values.get("extra"), dict):
            values["extra"] = json.dumps(values["extra"])
        return Connection(conn_id=conn_id, **values)

    return MLflowConnection.read("mlflow_default", get_connection)


class TestAddress:
    @pytest.mark.parametrize(
        ("fields", "url"),
        [
            ({"host": "mlflow"}, "http://mlflow"),
            ({"host": "mlflow", "port": 5000}, "http://mlflow:5000"),
            ({"host": "mlflow:5000"}, "http://mlflow:5000"),
            ({"host": "mlflow:5000", "port": 0}, "http://mlflow:5000"),  # the form's empty Port
            ({"host": "https://mlflow.example.com", "port": 443}, "https://mlflow.example.com"),
            ({"host": "mlflow", "port": 443}, "http://mlflow:443"),
            ({"host": "http://mlflow", "port": 5000}, "http://mlflow:5000"),
            ({"host": "http://mlflow:5000"}, "http://mlflow:5000"),
            ({"host": "http://mlflow:5000", "port": 5000, "schema": "http"}, "http://mlflow:5000"),
            ({"host": "mlflow.example.com", "schema": "https"}, "https://mlflow.example.com"),
            ({"host": " https://MLflow.example.com/ "}, "https://mlflow.example.com"),
            ({"host": "https://example.com/tools/mlflow/"}, "https://example.com/tools/mlflow"),
            ({"host": "example.com/x", "port": 8443, "schema": "https"}, "https://example.com:8443/x"),
            ({"host": "http://localhost:5000/#/experiments/1/runs"}, "http://localhost:5000"),
            ({"host": "http://localhost:5000/?workspace=a#/models"}, "http://localhost:5000"),
            ({"host": "::1", "port": 5000}, "http://[::1]:5000"),
            ({"host": "http://::1", "port": 5000}, "http://[::1]:5000"),
            ({"host": "[::1]:5000"}, "http://[::1]:5000"),
            ({"host": "http://[2001:db8::7]:5000/"}, "http://[2001:db8::7]:5000"),
        ],
    )
    def test_is_one_whichever_fields_it_is_spread_over(self, fields, url):
        connection = read(**fields)

        assert connection.url == url
        assert connection.tracking_uri == url

    @pytest.mark.parametrize(
        ("uri", "url"),
        [
            ("mlflow://mlflow:5000", "http://mlflow:5000"),
            ("http://mlflow:5000", "http://mlflow:5000"),
            ("http://mlflow.example.com/https", "https://mlflow.example.com"),
            ("https://mlflow.example.com:8443", "https://mlflow.example.com:8443"),
            ("https://http%3A%2F%2Fmlflow:5000", "http://mlflow:5000"),
            ("mlflow://https://mlflow.example.com", "https://mlflow.example.com"),
            ("mlflow://https%3A%2F%2Fmlflow.example.com:8443", "https://mlflow.example.com:8443"),
            ("mlflow://[::1]:5000", "http://[::1]:5000"),
        ],
    )
    def test_may_come_as_a_uri_from_the_environment(self, monkeypatch, uri, url):
        monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", uri)

        assert MLflowBaseHook().connection.url == url

    @pytest.mark.parametrize("conn_type", ["mlflow", "http", "generic", None])
    def test_is_read_from_every_connection_type(self, conn_type):
        assert read(conn_type=conn_type, host="mlflow").url == "http://mlflow"

    @pytest.mark.parametrize(
        ("fields", "ui_url"),
        [
            ({"host": "mlflow", "port": 5000}, "http://localhost:5001"),
            ({"host": "http://mlflow:5000/"}, "http://localhost:5001"),
            ({"host": "mlflow:5000", "extra": {"ui_url": "http://mlflow.lan/"}}, "http://mlflow.lan"),
            ({"host": "elsewhere:5000"}, "http://elsewhere:5000"),
        ],
    )
    def test_in_the_browser_is_set_in_extra_or_for_all_connections_to_a_server(
        self, monkeypatch, fields, ui_url
    ):
        setting = {"http://mlflow:5000/": "http://localhost:5001/"}
        monkeypatch.setenv("AIRFLOW__MLFLOW__UI_URLS", json.dumps(setting))

        assert read(**fields).ui_url == ui_url

    @pytest.mark.parametrize(
        "setting", ["http://localhost:5001", '["http://localhost:5001"]', '{"mlflow": 5001}']
    )
    def test_in_the_browser_cannot_be_set_to_anything_else(self, monkeypatch, setting):
        monkeypatch.setenv("AIRFLOW__MLFLOW__UI_URLS", setting)

        with pytest.raises(MLflowConfigurationError, match=r"\[mlflow\] ui_urls .* is not a JSON object"):
            read(host="mlflow")


class TestLogin:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"login": "", "password": ""}, LoginMethod()),
            ({"login": "ada", "password": PASSWORD}, Password("ada", secret=PASSWORD)),
            ({"login": "token", "password": PASSWORD}, Token(secret=PASSWORD)),
            # Connections for 1.1.0 may lack one of them.
            *[({"conn_type": old, "login": "ada"}, Password("ada")) for old in CONNECTION_TYPES[1:]],
            *[({"conn_type": old, "password": PASSWORD}, LoginMethod()) for old in CONNECTION_TYPES[1:]],
        ],
    )
    def test_is_none_or_basic_or_bearer(self, fields, expected):
        assert read(host="mlflow", **fields).login == expected

    def test_may_contain_characters_that_a_uri_must_escape(self, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", "mlflow://ada:p%40ss%2Fw%3Ard%25@mlflow:5000")

        assert MLflowBaseHook().connection.login.secret == "p@ss/w:rd%"


class TestDatabricks:
    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("https://dbc-a1b2.cloud.databricks.com", "https://dbc-a1b2.cloud.databricks.com"),
            ("dbc-a1b2.cloud.databricks.com", "https://dbc-a1b2.cloud.databricks.com"),
            ("https://agency.cloud.databricks.us/", "https://agency.cloud.databricks.us"),
            ("https://adb-12.3.azuredatabricks.net/?o=12#mlflow", "https://adb-12.3.azuredatabricks.net"),
            ("https://adb-12.3.azuredatabricks.net/ml/experiments/7", "https://adb-12.3.azuredatabricks.net"),
            ("ADB-12.3.AzureDatabricks.net", "https://adb-12.3.azuredatabricks.net"),
            ("https://adb-12.3.databricks.azure.us", "https://adb-12.3.databricks.azure.us"),
            ("https://adb-12.3.databricks.azure.cn", "https://adb-12.3.databricks.azure.cn"),
            ("12.3.gcp.databricks.com", "https://12.3.gcp.databricks.com"),
        ],
    )
    def test_is_recognized_by_its_host_on_every_cloud(self, host, url):
        connection = read(host=host, login="token", password=PASSWORD)

        assert connection.is_databricks
        assert connection.url == url
        assert connection.tracking_uri == "databricks"

    def test_is_not_any_host_that_contains_its_name(self):
        assert not read(**DATABRICKS | {"host": "https://cloud.databricks.com.example.org"}).is_databricks

    def test_gets_host_and_token_in_the_variables_it_reads(self):
        environment = read(**DATABRICKS).environment

        assert environment["MLFLOW_TRACKING_URI"] == "databricks"
        assert environment["DATABRICKS_HOST"] == "https://dbc-a1b2.cloud.databricks.com"
        assert environment["DATABRICKS_TOKEN"] == PASSWORD
        assert environment["MLFLOW_TRACKING_TOKEN"] is None

    @pytest.mark.parametrize("registry_uri", [None, "databricks", "databricks-uc"])
    def test_has_its_registry_in_unity_catalog_or_in_the_workspace(self, registry_uri):
        connection = read(**DATABRICKS, extra={"registry_uri": registry_uri})

        assert connection.environment["MLFLOW_REGISTRY_URI"] == registry_uri
        if registry_uri == "databricks":
            assert connection.registry_url() == connection.url
            with pytest.raises(MLflowConfigurationError, match="no aliases; use stages"):
                connection.registry_url(aliases=True)
        else:
            with pytest.raises(MLflowConfigurationError, match="use the mlflow package"):
                connection.registry_url()


class TestEnvironment:
    def test_has_all_variables_that_mlflow_reads_about_a_server(self):
        extra = {"workspace": "team-a", "verify": "/etc/ssl/ca.pem", "timeout": 30, "retry_timeout": 12}
        extra["registry_uri"] = "http://registry:5000/"

        assert read(host="mlflow:5000", login="ada", password=PASSWORD, extra=extra).environment == {
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "MLFLOW_REGISTRY_URI": "http://registry:5000",
            "MLFLOW_WORKSPACE": "team-a",
            "MLFLOW_TRACKING_USERNAME": "ada",
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
            "MLFLOW_TRACKING_TOKEN": None,
            "DATABRICKS_HOST": None,
            **dict.fromkeys(("DATABRICKS_TOKEN", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET")),
            "MLFLOW_TRACKING_AUTH": "airflow-connection",
            "AIRFLOW_MLFLOW_LOGIN": None,
            "AIRFLOW_MLFLOW_LOGIN_SECRET": None,
            "MLFLOW_TRACKING_CLIENT_CERT_PATH": None,
            "MLFLOW_TRACKING_INSECURE_TLS": None,
            "MLFLOW_TRACKING_SERVER_CERT_PATH": "/etc/ssl/ca.pem",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "2",
            "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "2.0",
            "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
            "AIRFLOW_MLFLOW_HEADERS": None,
        }

    def test_of_a_token_has_no_password(self):
        environment = read(host="mlflow", login="token", password=PASSWORD).environment

        login = [environment[f"MLFLOW_TRACKING_{name}"] for name in ("TOKEN", "USERNAME", "PASSWORD")]
        assert login == [PASSWORD, None, None]


class TestExtra:
    def test_has_defaults_where_it_is_empty_or_blank(self):
        blank = {"ui_url": "", "artifact_conn_id": None, "verify": None, "timeout": "", "retry_timeout": None}

        for connection in (read(host="mlflow"), read(host="mlflow", extra=blank)):
            assert connection.verify is True
            assert connection.timeout == DEFAULT_TIMEOUT_SECONDS
            assert connection.retry_timeout == DEFAULT_RETRY_TIMEOUT_SECONDS
            assert connection.artifact_store == ArtifactStore()

    @pytest.mark.parametrize(
        ("verify", "insecure", "bundle"),
        [
            (True, None, None),
            ("true", None, None),
            (False, "true", None),
            ("False", "true", None),
            ("/etc/ssl/ca.pem", None, "/etc/ssl/ca.pem"),
        ],
    )
    def test_verify_is_a_switch_or_a_path(self, verify, insecure, bundle):
        environment = read(host="mlflow", extra={"verify": verify}).environment

        assert environment["MLFLOW_TRACKING_INSECURE_TLS"] == insecure
        assert environment["MLFLOW_TRACKING_SERVER_CERT_PATH"] == bundle

    def test_numbers_may_be_strings(self):
        connection = read(host="mlflow", extra={"timeout": "2.5", "retry_timeout": "0"})

        assert (connection.timeout, connection.retry_timeout) == (2.5, 0)

    @pytest.mark.parametrize(("retries", "seconds"), [(0, 0), (1, 2), (4, 30), (10, 2046), (99, 2046)])
    def test_a_number_of_retries_is_the_time_that_they_took(self, retries, seconds):
        assert read(host="mlflow", extra={"retries": retries}).retry_timeout == seconds
        assert read(host="mlflow", extra={"retries": retries, "retry_timeout": 7}).retry_timeout == 7

    def test_of_an_http_connection_has_headers_beside_options_and_secrets(self, caplog):
        secrets = ("password", "client_secret", "aws_secret_access_key", "privateKey")
        ignored = dict.fromkeys((*HTTP_OPTIONS, *secrets), PASSWORD)
        headers = {"Authorization": "Bearer t0ken", "CF-Access-Client-Secret": "s3cret", "X-Team": 7}

        connection = read(conn_type="http", host="mlflow", extra={**ignored, **headers, "retries": 1})

        assert connection.headers == {**headers, "X-Team": "7"}
        assert connection.retry_timeout == 2
        assert "Extra: ignored allow_redirects, auth_kwargs" in caplog.text
        assert PASSWORD not in caplog.text

    @pytest.mark.parametrize(
        "header", [{"X-Team": "a\nb"}, {"X-Team": " b"}, {"X-Team": "й"}, {"X Team": "b"}]
    )
    def test_of_an_http_connection_that_cannot_be_a_header_is_reported(self, header):
        with pytest.raises(MLflowConfigurationError, match="cannot be sent as an HTTP header") as raised:
            read(conn_type="http", host="mlflow", extra=header)

        assert raised.value.field == f"Extra, {next(iter(header))}"


class TestErrors:
    @pytest.mark.parametrize(
        ("fields", "field", "advice"),
        [
            ({"host": None}, "Host", "enter the address of the server"),
            ({"host": "  "}, "Host", "enter the address of the server"),
            ({"host": "http://"}, "Host", "enter, for example, http://localhost:5000"),
            ({"host": "mlflow:99999"}, "Host", "enter, for example, http://localhost:5000"),
            ({"host": "x" * 10_000}, "Host", "has no host name, or an invalid one; enter, for example,"),
            ({"host": "http://[::1"}, "Host", "enter, for example, http://localhost:5000"),
            ({"host": "file:///mlruns"}, "Host", "enter http or https"),
            ({"host": "sqlite:///mlflow.db"}, "Host", "enter http or https"),
            ({"host": f"http://ada:{PASSWORD}@mlflow"}, "Host", "enter Login and Password"),
            ({"host": f"http:/ada:{PASSWORD}@mlflow"}, "Host", "enter Login and Password"),
            ({"host": "http://mlflow:5000", "port": 5001}, "Port", "enter only one of them"),
            ({"schema": "ftp"}, "Schema", "enter http or https"),
            ({"host": "https://mlflow", "schema": "http"}, "Schema", "enter only one of them"),
            ({"conn_type": "aws"}, "Connection Type", "choose 'mlflow'"),
            ({"login": None}, "Login", "enter the user name"),
            ({"password": None}, "Password", "enter the password of 'ada'"),
            ({"login": "token", "password": None}, "Password", "enter the access token"),
            ({"login": "token", "password": f"{PASSWORD}\n"}, "Password", "enter only the token"),
            (DATABRICKS | {"login": "app", "password": None}, "Password", "client secret of 'app'"),
            (DATABRICKS | {"login": None, "password": None}, "Login", "enter the client ID"),
            ({"extra": {"auth": "kubernetes"}}, "Login", "remove one of them"),
            (NO_LOGIN | {"extra": {"auth": "x", "token_file": "/x"}}, "Extra, token_file", "remove one"),
            (NO_LOGIN | {"extra": {"auth": "google"}}, "Extra, audience", "address of the Cloud Run service"),
            (NO_LOGIN | {"extra": {"auth": "azure"}}, "Extra, scope", "api://mlflow/.default"),
            ({"extra": {"token_file": "/var/run/token"}}, "Login", "remove one of them"),
            ({"password": None, "extra": {"token_url": TOKEN_URL}}, "Password", "client secret of 'ada'"),
            ({"login": None, "extra": {"token_url": TOKEN_URL}}, "Login", "enter the client ID"),
            ({"extra": {"token_url": "http://login.example/token"}}, "Extra, token_url", "with https://"),
            ({"extra": {"token_url": f"https://ada:{PASSWORD}@x/t"}}, "Extra, token_url", "for example"),
            ({"extra": {"scope": "mlflow"}}, "Extra, scope", "remove one of them"),
            ({"extra": {"client_cert": 5}}, "Extra, client_cert", "enter text"),
            ({"host": "arn:aws:sagemaker:eu-central-1:1:mlflow-app/a"}, "Login", "remove one of them"),
            (NO_LOGIN | {"host": "arn:aws:s3:::bucket"}, "Host", "copy it from SageMaker"),
            ({"extra": "retries=4"}, "Extra", "JSON object"),
            ({"extra": "[4]"}, "Extra", "JSON object"),
            ({"extra": "[" * 200_000}, "Extra", "JSON object"),
            ({"extra": {"ui_url": "javascript:alert(1)"}}, "UI address", "starts with http://"),
            ({"extra": {"ui_url": f"https://ada:{PASSWORD}@mlflow"}}, "UI address", "has no login"),
            ({"extra": {"ui_url": f"ada:{PASSWORD}@mlflow"}}, "UI address", "has no login"),
            ({"extra": {"ui_url": {}}}, "Extra, ui_url", "enter text"),
            ({"extra": {"artifact_conn_id": 5}}, "Extra, artifact_conn_id", "enter text"),
            ({"extra": {"verify": "\0"}}, "Extra, verify", "without null characters"),
            ({"host": "ml\0flow"}, "Host", "without null characters"),
            ({"password": f"{PASSWORD}\ud800"}, "Password", "enter text"),
            ({"extra": {"retrys": 4}}, "Extra", "unknown: retrys; use ui_url"),
            ({"extra": {"registry_uri": "databricks"}}, "Extra, registry_uri", "address of an MLflow server"),
            ({"extra": {"registry_uri": f"http://a:{PASSWORD}@x"}}, "Extra, registry_uri", "without a login"),
            ({"extra": {"workspace": "Team A"}}, "Extra, workspace", "lowercase letters, digits and hyphens"),
            (DATABRICKS | {"extra": {"workspace": "a"}}, "Extra, workspace", "enter nothing"),
            (DATABRICKS | {"extra": {"registry_uri": "http://x"}}, "Extra, registry_uri", "enter databricks"),
            ({"extra": {"verify": 0}}, "Extra, verify", "enter true, false or the path of a CA bundle"),
            ({"extra": {"verify": []}}, "Extra, verify", "enter true, false or the path of a CA bundle"),
            ({"extra": {"verify": {}}}, "Extra, verify", "enter true, false or the path of a CA bundle"),
            ({"extra": {"timeout": "soon"}}, "Extra, timeout", "enter a number of at least 1"),
            ({"extra": {"timeout": 0}}, "Extra, timeout", "enter a number of at least 1"),
            ({"extra": {"timeout": "inf"}}, "Extra, timeout", "enter a number of at least 1"),
            ({"extra": {"retry_timeout": -1}}, "Extra, retry_timeout", "enter a number of at least 0"),
            ({"extra": {"retries": [4]}}, "Extra, retries", "enter a number of at least 0"),
        ],
    )
    def test_name_connection_and_field_and_what_to_enter(self, fields, field, advice):
        with pytest.raises(MLflowConfigurationError) as raised:
            read(**{"host": "mlflow", "login": "ada", "password": PASSWORD, **fields})

        assert (raised.value.conn_id, raised.value.field) == ("mlflow_default", field)
        assert str(raised.value).startswith(f"Connection 'mlflow_default', field {field}: ")
        assert advice in str(raised.value)
        assert PASSWORD not in str(raised.value)


def test_the_header_with_the_password_is_masked_in_airflows_logs():
    read(host="mlflow", login="ada", password=PASSWORD)

    assert redact(base64.b64encode(f"ada:{PASSWORD}".encode()).decode()) == "***"


@pytest.mark.parametrize("login", ["ada", "token"])
def test_secrets_are_not_in_the_representation(login):
    store = {"conn_type": "aws", "login": "minio", "password": PASSWORD}
    extra = {"artifact_conn_id": "minio_default", "X-Key": PASSWORD}

    connection = read(store, conn_type="http", host="mlflow", login=login, password=PASSWORD, extra=extra)

    assert PASSWORD in str((connection.environment, connection.headers))
    assert PASSWORD not in repr(connection)
    assert PASSWORD not in str(connection)
