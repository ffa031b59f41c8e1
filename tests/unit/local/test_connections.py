"""What of airflow_settings.yaml reaches the Airflow of the stack."""

import json

import pytest
import yaml

from local import connections
from local.settings import LocalError, Ports

PORTS = Ports(airflow=8090, mlflow=5090)
WITH_MINIO = Ports(airflow=8090, mlflow=5090, minio=9090, minio_console=9091)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function that reads settings: a mapping, or the text of the file."""

    def read_settings(settings, ports=PORTS):
        file = tmp_path / "airflow_settings.yaml"
        file.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
        monkeypatch.setattr(connections, "FILE", file)
        return connections.read(ports)

    return read_settings


@pytest.fixture
def read_connection(read):
    """A function that reads one connection, with ``extra`` as a mapping; None if it is left out."""

    def read_one(ports=PORTS, **fields):
        entry = {"conn_id": "c", "conn_type": "mlflow"} | {f"conn_{key}": val for key, val in fields.items()}
        found = read({"airflow": {"connections": [entry]}}, ports)["connections"]
        return {**found[0], "extra": json.loads(found[0]["extra"])} if found else None

    return read_one


def test_the_projects_own_file_leads_to_the_local_mlflow():
    (connection,) = connections.read(PORTS)["connections"]
    assert connection["connection_id"] == "mlflow_default"
    assert (connection["host"], connection["port"]) == ("http://127.0.0.1", 5090)
    assert json.loads(connection["extra"])["ui_url"] == "http://localhost:5090"


def test_with_minio_the_projects_own_file_leads_there_too():
    mlflow, minio = connections.read(WITH_MINIO)["connections"]
    assert mlflow == connections.read(PORTS)["connections"][0]
    assert minio["connection_id"] == "minio_default"
    assert json.loads(minio["extra"]) == {"endpoint_url": "http://127.0.0.1:9090", "region_name": "us-east-1"}


@pytest.mark.parametrize("host", ["http://mlflow", "http://mlflow:5000", "mlflow", "mlflow:5000"])
def test_the_mlflow_container_is_replaced_however_it_is_written(read_connection, host):
    connection = read_connection(host=host, port=5000)
    assert (connection["host"], connection["port"]) == ("http://127.0.0.1", 5090)


def test_any_other_server_stays_as_it_is(read_connection):
    fields = {"host": "https://mlflow.example.com", "port": 443, "login": "me", "password": "secret"}
    extra = {"ui_url": "https://mlflow.example.com/ui"}
    connection = read_connection(**fields, extra=extra)
    assert {key: connection[key] for key in fields} == fields
    assert connection["extra"] == extra


def test_extra_may_be_json(read_connection):
    connection = read_connection(
        host="http://mlflow", extra='{"ui_url": "http://localhost:5000", "timeout": 5}'
    )
    assert connection["extra"] == {"ui_url": "http://localhost:5090", "timeout": 5}


def test_a_connection_to_a_container_that_does_not_run_here_is_left_out(read_connection):
    assert read_connection(type="aws", extra={"endpoint_url": "http://minio:9000"}) is None
    assert read_connection(type="http", host="http://minio", port=9000) is None


def test_the_minio_container_is_replaced_however_it_is_written(read_connection):
    connection = read_connection(WITH_MINIO, type="aws", extra={"endpoint_url": "http://minio:9000"})
    assert connection["extra"] == {"endpoint_url": "http://127.0.0.1:9090"}
    connection = read_connection(WITH_MINIO, type="aws", host="minio", port=9000)
    assert (connection["host"], connection["port"]) == ("http://127.0.0.1", 9090)


def test_variables_and_pools_are_read_too(read):
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


def test_the_empty_entries_of_the_template_are_passed_over(read):
    template = """
airflow:
  connections:
    - conn_id:
      conn_type:
      conn_host:
  pools:
    - pool_name:
      pool_slot:
  variables:
    - variable_name:
      variable_value:
"""
    assert read(template) == {"connections": [], "variables": [], "pools": []}


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
def test_a_malformed_file_is_named(read, text):
    with pytest.raises(LocalError, match=r"airflow_settings\.yaml is not as the Astro CLI wants it"):
        read(text)


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "FILE", tmp_path / "airflow_settings.yaml")
    with pytest.raises(LocalError, match=r"airflow_settings\.yaml is missing"):
        connections.read(PORTS)
