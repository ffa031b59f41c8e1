"""What Airflow gets from airflow_settings.yaml."""

import json

import pytest
import yaml

from local_stack import airflow_settings
from local_stack.ports import Ports
from local_stack.settings import LocalError

PORTS = Ports(airflow=8090, mlflow=5090)
WITH_MINIO = Ports(airflow=8090, mlflow=5090, minio=9090, minio_console=9091)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function that reads settings: a mapping, or the text of the file."""

    def read_settings(settings, ports=PORTS):
        file = tmp_path / "airflow_settings.yaml"
        file.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
        monkeypatch.setattr(airflow_settings, "FILE", file)
        return airflow_settings.read(ports)

    return read_settings


@pytest.fixture
def read_connection(read):
    """A function that reads one connection, with ``extra`` as a mapping; None if it is skipped."""

    def read_one(ports=PORTS, **fields):
        entry = {"conn_id": "c", "conn_type": "mlflow"} | {f"conn_{key}": val for key, val in fields.items()}
        connections = read({"airflow": {"connections": [entry]}}, ports)["connections"]
        return (
            {**connections[0], "extra": json.loads(connections[0]["extra"] or "{}")} if connections else None
        )

    return read_one


def test_the_projects_own_file_connects_to_the_local_mlflow():
    (connection,) = airflow_settings.read(PORTS)["connections"]
    assert connection["connection_id"] == "mlflow_default"
    assert (connection["host"], connection["port"]) == ("http://127.0.0.1", 5090)


def test_the_projects_own_file_also_connects_to_a_local_minio():
    mlflow, minio = airflow_settings.read(WITH_MINIO)["connections"]
    assert mlflow == airflow_settings.read(PORTS)["connections"][0]
    assert minio["connection_id"] == "minio_default"
    assert json.loads(minio["extra"]) == {"endpoint_url": "http://127.0.0.1:9090", "region_name": "us-east-1"}


@pytest.mark.parametrize("host", ["http://mlflow", "http://mlflow:5000", "mlflow", "mlflow:5000"])
def test_the_address_of_the_mlflow_container_is_replaced_in_every_notation(read_connection, host):
    connection = read_connection(host=host, port=5000)
    assert (connection["host"], connection["port"]) == ("http://127.0.0.1", 5090)


def test_another_server_is_kept(read_connection):
    fields = {"host": "https://mlflow.example.com", "port": 443, "login": "me", "password": "secret"}
    extra = {"ui_url": "https://mlflow.example.com/ui"}
    connection = read_connection(**fields, extra=extra)
    assert {key: connection[key] for key in fields} == fields
    assert connection["extra"] == extra


@pytest.mark.parametrize(
    "value",
    [
        '{"conn_type": "mlflow", "host": "https://mlflow.example.com", "login": "me", "password": "p"}',
        "mlflow://me:p@https%3A%2F%2Fmlflow.example.com",
    ],
)
def test_the_mlflow_in_env_is_shown_with_a_port(read, monkeypatch, tmp_path, value):
    monkeypatch.setattr("local_stack.settings.ROOT", tmp_path)
    (tmp_path / ".env").write_text(f"AIRFLOW_CONN_MLFLOW_DEFAULT='{value}'")
    entry = {"conn_id": "mlflow_default", "conn_type": "mlflow", "conn_host": "http://mlflow"}
    [connection] = read({"airflow": {"connections": [entry]}}, Ports(mlflow=None))["connections"]
    shown = {"host": "https://mlflow.example.com", "port": 443, "login": "me", "password": "p"}
    assert connection.items() >= {"connection_id": "mlflow_default", "conn_type": "mlflow", **shown}.items()


def test_extra_may_be_json(read_connection):
    connection = read_connection(host="http://mlflow", extra='{"timeout": 5}')
    assert connection["extra"] == {"timeout": 5}


def test_a_connection_to_a_container_without_a_counterpart_is_skipped(read_connection):
    assert read_connection(type="aws", extra={"endpoint_url": "http://minio:9000"}) is None
    assert read_connection(type="http", host="http://minio", port=9000) is None


def test_the_address_of_the_minio_container_is_replaced_in_every_notation(read_connection):
    connection = read_connection(WITH_MINIO, type="aws", extra={"endpoint_url": "http://minio:9000"})
    assert connection["extra"] == {"endpoint_url": "http://127.0.0.1:9090"}
    connection = read_connection(WITH_MINIO, type="aws", host="minio", port=9000)
    assert (connection["host"], connection["port"]) == ("http://127.0.0.1", 9090)


@pytest.mark.parametrize(
    ("uri", "fields"),
    [
        ("mlflow://mlflow:5000", {"conn_type": "mlflow", "host": "http://127.0.0.1", "port": 5090}),
        (
            "mlflow://me:p%40ss%2Fword@https%3A%2F%2Fmlflow.example.com:443/?timeout=5&retries=1",
            {
                "conn_type": "mlflow",
                "host": "https://mlflow.example.com",
                "port": 443,
                "login": "me",
                "password": "p@ss/word",
                "extra": {"timeout": "5", "retries": "1"},
            },
        ),
        (
            "http://https://example.com:444/https",
            {"host": "https://example.com", "port": 444, "schema": "https"},
        ),
        (
            "my-sql://ex.com/db?__extra__=%7B%22a%22%3A+%7B%22b%22%3A+1%7D%7D",
            {"conn_type": "my_sql", "schema": "db"},
        ),
        ("aws://?__extra__=%7B%22a%22%3A+%7B%22b%22%3A+1%7D%7D", {"extra": {"a": {"b": 1}}, "port": None}),
    ],
)
def test_a_connection_may_be_a_uri(read, uri, fields):
    entry = {"conn_id": "c", "conn_type": "", "conn_host": "", "conn_uri": uri}
    (connection,) = read({"airflow": {"connections": [entry]}})["connections"]
    connection["extra"] = json.loads(connection["extra"] or "{}")
    assert {name: connection[name] for name in fields} == fields


def test_variables_and_pools_are_read(read):
    settings = read(
        {
            "airflow": {
                "variables": [{"variable_name": "v", "variable_value": "1"}],
                "pools": [{"pool_name": "p", "pool_slot": 3, "pool_description": "three"}],
            }
        }
    )
    assert settings == {
        "connections": [],
        "variables": [{"key": "v", "value": "1"}],
        "pools": [{"name": "p", "slots": 3, "description": "three", "include_deferred": False}],
    }


def test_the_empty_entries_of_the_astro_template_are_skipped(read):
    template = {
        "connections": [{"conn_id": None, "conn_type": None, "conn_host": None}],
        "pools": [{"pool_name": None, "pool_slot": None}],
        "variables": [{"variable_name": None, "variable_value": None}],
    }
    assert read({"airflow": template}) == {"connections": [], "variables": [], "pools": []}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "connections: []",
        "airflow: [1]",
        "airflow: {connections: [",
        "airflow: {connections: [{conn_type: http}]}",
        "airflow: {connections: [{conn_id: a, conn_type: http, conn_extra: '{'}]}",
    ],
)
def test_an_invalid_file_is_reported(read, text):
    with pytest.raises(LocalError, match=r"airflow_settings\.yaml is not in the format of the Astro CLI"):
        read(text)


def test_a_missing_file_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(airflow_settings, "FILE", tmp_path / "airflow_settings.yaml")
    with pytest.raises(LocalError, match=r"airflow_settings\.yaml is missing"):
        airflow_settings.read(PORTS)
