"""Which store holds the artifacts, and with which keys."""

import json

import pytest
import yaml

from local_stack import airflow_settings, object_store, supervision
from local_stack.ports import WITH_MINIO
from local_stack.settings import LocalError

HELD_BY_MINIO = "minio/mlflow/1/a/artifacts/features.csv/xl.meta"
HELD_BY_DISK = "mlflow/artifacts/1/a/artifacts/features.csv"


@pytest.fixture
def program(tmp_path):
    """A program called minio that is not on PATH."""
    path = tmp_path / "programs" / "minio"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A function that adds a file to the data of the stack, which are none at first."""
    monkeypatch.setattr(object_store, "BUCKET", tmp_path / "minio" / "mlflow")
    monkeypatch.setattr(object_store, "ON_DISK", tmp_path / "mlflow" / "artifacts")

    def add(name):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()

    return add


@pytest.fixture
def choose(data, monkeypatch, tmp_path, capsys):
    """A function that chooses with this ``MINIO`` and PATH, and returns the program and what was said."""

    def choose_with(named=None, path=tmp_path):
        monkeypatch.setenv("PATH", str(path))
        monkeypatch.delenv("MINIO", raising=False)
        if named is not None:
            monkeypatch.setenv("MINIO", str(named))
        return object_store.choose(), capsys.readouterr().out

    return choose_with


def test_without_a_program_artifacts_go_to_the_disk(choose, data):
    assert choose() == (None, "")
    data(HELD_BY_DISK)
    assert choose() == (None, "")


def test_the_one_on_the_path_is_found(choose, program):
    assert choose(path=program.parent) == (program, "")


def test_the_one_that_is_named_is_found(choose, program):
    assert choose(program) == (program, "")


def test_an_empty_name_switches_it_off(choose, program):
    assert choose("", path=program.parent) == (None, "")


def test_a_name_of_nothing_is_told(choose):
    with pytest.raises(LocalError, match=r"MINIO=/no/minio: there is no such program\. With MINIO= "):
        choose("/no/minio")


def test_artifacts_in_minio_stay_there(choose, data, program):
    data(HELD_BY_MINIO)
    assert choose(path=program.parent) == (program, "")
    for named in (None, ""):
        with pytest.raises(
            LocalError, match=r"Earlier artifacts are in MinIO.* MINIO=/path/to/minio make up"
        ):
            choose(named)


def test_artifacts_on_the_disk_stay_there(choose, data, program):
    data(HELD_BY_DISK)
    chosen, said = choose(path=program.parent)
    assert chosen is None
    assert said.startswith("Earlier artifacts are on the disk")
    assert "make reset" in said
    assert choose("", path=program.parent) == (None, "")


def test_a_minio_that_is_named_is_not_passed_over_in_silence(choose, data, program):
    data(HELD_BY_DISK)
    with pytest.raises(LocalError, match=r"Earlier artifacts are on the disk.* make reset"):
        choose(program)


def test_a_store_that_was_never_used_may_be_changed(choose, data, program):
    data("minio/.minio.sys/format.json")
    object_store.BUCKET.mkdir()
    object_store.ON_DISK.mkdir(parents=True)
    assert choose() == (None, "")
    assert choose(program) == (program, "")


def test_minio_and_its_clients_have_the_keys_of_the_connection():
    keys = next(
        entry
        for entry in yaml.safe_load(airflow_settings.FILE.read_text())["airflow"]["connections"]
        if entry["conn_id"] == "minio_default"
    )
    client, server = object_store.keys(WITH_MINIO), object_store.keys(WITH_MINIO)
    assert client["AWS_ACCESS_KEY_ID"] == server["MINIO_ROOT_USER"] == keys["conn_login"]
    assert client["AWS_SECRET_ACCESS_KEY"] == server["MINIO_ROOT_PASSWORD"] == keys["conn_password"]
    assert client["MLFLOW_S3_ENDPOINT_URL"] == "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    "fields",
    [
        {"conn_id": "another"},
        {},
        {"conn_login": "me"},
        {"conn_password": "geheim"},
    ],
    ids=repr,
)
def test_missing_keys_are_told(tmp_path, monkeypatch, fields):
    monkeypatch.setattr(airflow_settings, "FILE", tmp_path / "airflow_settings.yaml")
    entry = {"conn_id": "minio_default", "conn_type": "aws", **fields}
    airflow_settings.FILE.write_text(json.dumps({"airflow": {"connections": [entry]}}))
    with pytest.raises(
        LocalError, match=r"minio_default in airflow_settings\.yaml, which has none"
    ) as caught:
        supervision.components(WITH_MINIO)
    assert "heim" not in str(caught.value)
