"""Every kind of artifact store is accepted, and errors name the field that MLflow's client cannot use."""

from __future__ import annotations

import json
import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, redact
from airflow.sdk import Connection

from mlflow_provider.exceptions import MLflowConfigurationError
from mlflow_provider.server.artifact_store import AWS_VARIABLES, AZURE_VARIABLES, ArtifactStore, credentials

SECRET = "s3cret-pa55word"
LOGIN = {"login": "minio", "password": SECRET}
NO_AWS: dict[str, str | None] = dict.fromkeys(AWS_VARIABLES)
NO_AZURE: dict[str, str | None] = dict.fromkeys(AZURE_VARIABLES)
KEYS = NO_AWS | {"AWS_ACCESS_KEY_ID": "minio", "AWS_SECRET_ACCESS_KEY": SECRET}
ENDPOINT = {"MLFLOW_S3_ENDPOINT_URL": "http://minio:9000"}
ROLE = {"role_arn": "arn:aws:iam::123456789012:role/mlflow"}
GOOGLE = "google_cloud_platform"
GOOGLE_KEY = {"type": "service_account", "private_key": SECRET}
ACCOUNT = "BlobEndpoint=https://ada.blob.core.windows.net"


def read(conn_type: str = "aws", **fields) -> ArtifactStore:
    """Read a connection ``store`` with these fields."""
    if isinstance(fields.get("extra"), dict):
        fields["extra"] = json.dumps(fields["extra"])
    return ArtifactStore.read(
        "store", lambda conn_id: Connection(conn_id=conn_id, conn_type=conn_type, **fields)
    )


def role(name: str, value: str) -> dict[str, Any]:
    return {**ROLE, "assume_role_kwargs": {name: value}}


@pytest.mark.parametrize(
    ("fields", "variables"),
    [
        ({**LOGIN, "extra": {"endpoint_url": "http://minio:9000"}}, KEYS | ENDPOINT),
        ({**LOGIN, "host": "http://minio:9000"}, KEYS | ENDPOINT),
        ({**LOGIN, "host": "minio", "port": 9000}, KEYS | ENDPOINT),
        (
            {**LOGIN, "extra": {"service_config": {"s3": {"endpoint_url": "http://minio:9000"}, "ec2": {}}}},
            KEYS | ENDPOINT,
        ),
        ({**LOGIN, "extra": {"aws_session_token": "t0ken"}}, KEYS | {"AWS_SESSION_TOKEN": "t0ken"}),
        ({**LOGIN, "extra": {"region_name": "eu-west-1"}}, KEYS | {"AWS_DEFAULT_REGION": "eu-west-1"}),
        ({**LOGIN, "extra": {"verify": False}}, KEYS | {"MLFLOW_S3_IGNORE_TLS": "true"}),
        ({**LOGIN, "extra": {"verify": "/ca.pem"}}, KEYS | {"AWS_CA_BUNDLE": "/ca.pem"}),
        ({"extra": {"aws_access_key_id": "minio", "aws_secret_access_key": SECRET}}, KEYS),
        ({"login": "minio", "extra": {"aws_secret_access_key": SECRET}}, KEYS),
        (
            {"extra": {"profile_name": "ml"}},
            NO_AWS | {"AWS_PROFILE": "ml", "AWS_WEB_IDENTITY_TOKEN_FILE": None},
        ),
        (
            {"conn_type": GOOGLE, "extra": {"key_path": "/key.json", "project": "housing"}},
            {"GOOGLE_APPLICATION_CREDENTIALS": "/key.json", "GOOGLE_CLOUD_PROJECT": "housing"},
        ),
        (
            {"conn_type": "wasb", "extra": {"extra__wasb__connection_string": "AccountName=ada"}},
            NO_AZURE | {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=ada"},
        ),
        *(
            (
                {"conn_type": "wasb", **fields},
                NO_AZURE
                | {"AZURE_STORAGE_CONNECTION_STRING": f"{ACCOUNT};AccountName=ada;AccountKey={SECRET}"},
            )
            for fields in (
                {"login": "ada", "password": SECRET},
                {"login": "ada", "extra": {"account_key": SECRET}},
                {"host": "https://ada.blob.core.windows.net", "extra": {"shared_access_key": SECRET}},
            )
        ),
        *(
            (
                {"conn_type": "wasb", "login": "ada", "extra": {"sas_token": f"{start}sv=1&sig={SECRET}"}},
                NO_AZURE
                | {
                    "AZURE_STORAGE_CONNECTION_STRING": f"{ACCOUNT};SharedAccessSignature=sv=1&sig={SECRET}",
                    "AZURE_STORAGE_SAS_TOKEN": f"sv=1&sig={SECRET}",
                },
            )
            for start in ("", "?", "https://ada.blob.core.windows.net?")
        ),
    ],
)
def test_a_connection_becomes_the_variables_of_mlflows_client(fields, variables):
    store = read(**fields)

    assert store.variables == variables
    assert SECRET not in repr(store)
    assert SECRET not in redact(str(variables))


@pytest.mark.parametrize("conn_type", ["aws", GOOGLE, "wasb"])
def test_without_keys_the_workers_own_are_used_and_the_log_says_so(conn_type, caplog):
    caplog.set_level("INFO")

    assert not read(conn_type, extra={"num_retries": 5} if conn_type == GOOGLE else {}).variables

    assert "Connection 'store' has no keys; MLflow uses the identity of this worker." in caplog.text


@pytest.mark.parametrize(
    ("fields", "field", "advice"),
    [
        ({"conn_type": "ssh"}, "Connection Type", "choose aws, google_cloud_platform or wasb"),
        ({"login": "minio"}, "Password", "secret access key"),
        ({"password": SECRET}, "Login", "access key ID"),
        ({**LOGIN, "extra": "[]"}, "Extra", "JSON object"),
        ({**LOGIN, "host": "s3://bucket"}, "Host", "enter http or https"),
        ({**LOGIN, "password": f"{SECRET}\0"}, "Password", "null characters"),
        ({"extra": {"aws_session_token": 5}}, "Extra, aws_session_token", "enter text"),
        ({"extra": {"region_name": {}}}, "Extra, region_name", "enter text"),
        ({"extra": {"endpoint_url": "\ud800"}}, "Extra, endpoint_url", "enter text"),
        ({"extra": {"verify": 0}}, "Extra, verify", "path of a CA bundle"),
        ({**LOGIN, "extra": {"profile_name": "ml"}}, "Extra, profile_name", "also a key pair"),
        ({"extra": {"config_kwargs": {"retries": {}}}}, "Extra, config_kwargs", "not supported"),
        ({"extra": {"service_config": []}}, "Extra, service_config", "JSON object"),
        ({"extra": {"service_config": {"sts": {"a": 1}}}}, "Extra, service_config.sts.a", "not supported"),
        ({"extra": ROLE | {"assume_role_method": "saml"}}, "Extra, assume_role_method", "enter assume_role"),
        ({"extra": role("Policy", "p")}, "Extra, assume_role_kwargs.Policy", "not supported"),
        ({"extra": role("ExternalId", "a\n[b]")}, "Extra, assume_role_kwargs.ExternalId", "enter one line"),
        ({"conn_type": GOOGLE, "login": "ada"}, "Login", "not supported"),
        (
            {"conn_type": GOOGLE, "extra": {"impersonation_chain": "ada"}},
            "Extra, impersonation_chain",
            "not supported",
        ),
        (
            {"conn_type": GOOGLE, "extra": {"keyfile_dict": "key.json"}},
            "Extra, keyfile_dict",
            "content of the file",
        ),
        (
            {"conn_type": GOOGLE, "extra": {"key_path": "a", "keyfile_dict": GOOGLE_KEY}},
            "Extra, keyfile_dict",
            "also Extra, key_path",
        ),
        ({"conn_type": "wasb", "extra": {"tenant_id": "t"}}, "Extra, tenant_id", "not supported"),
        ({"conn_type": "wasb", "password": SECRET}, "Host", "its name as Login"),
        ({"conn_type": "wasb", **LOGIN, "extra": {"sas_token": SECRET}}, "Password", "also Extra, sas_token"),
    ],
)
def test_an_error_names_the_field_and_the_fix(fields, field, advice):
    with pytest.raises(MLflowConfigurationError) as raised:
        read(**fields)

    assert (raised.value.conn_id, raised.value.field) == ("store", field)
    assert advice in str(raised.value)
    assert SECRET not in str(raised.value)


def test_an_error_says_that_the_connection_does_not_exist():
    def get_connection(conn_id: str) -> Connection:
        raise AirflowNotFoundException(conn_id)

    with pytest.raises(MLflowConfigurationError, match="AIRFLOW_CONN_STORE"):
        ArtifactStore.read("store", get_connection)


class TestFiles:
    @pytest.mark.parametrize(
        ("fields", "variable"),
        [
            (
                {"conn_type": GOOGLE, "extra": {"keyfile_dict": json.dumps(GOOGLE_KEY)}},
                "GOOGLE_APPLICATION_CREDENTIALS",
            ),
            ({**LOGIN, "extra": ROLE}, "AWS_CONFIG_FILE"),
        ],
    )
    def test_with_secrets_are_readable_by_the_owner_until_the_end_of_the_block_even_if_a_fork_leaves_it(
        self, fields, variable
    ):
        def fail_in_a_block() -> None:
            with ExitStack() as block:
                block.enter_context(credentials(read(**fields)))
                files.append(Path(os.environ[variable]))
                assert SECRET in files[0].read_text()
                assert SECRET not in str(os.environ)
                assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
                if not os.fork():
                    block.close()
                    os._exit(0)
                os.wait()
                assert files[0].exists()
                raise ZeroDivisionError

        files: list[Path] = []
        with pytest.raises(ZeroDivisionError):
            fail_in_a_block()

        assert not files[0].exists()
        assert variable not in os.environ

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"conn_type": GOOGLE, "extra": {"key_path": "/gone.json"}}, "Extra, key_path"),
            ({"extra": {"verify": "/gone.json"}}, "Extra, verify"),
        ],
    )
    def test_that_are_missing_are_named_where_tasks_run(self, fields, field):
        store = read(**fields)

        with pytest.raises(MLflowConfigurationError, match="does not exist on this worker") as raised:
            credentials(store).__enter__()

        assert raised.value.field == field
