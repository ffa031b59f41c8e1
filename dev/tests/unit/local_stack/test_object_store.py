"""Which store has the artifacts, and with which keys."""

import json

import pytest

from local_stack import airflow_settings, object_store, supervision
from local_stack.ports import WITH_MINIO
from local_stack.settings import LocalError

IN_BUCKET = "minio/mlflow/1/a/artifacts/features.csv"
ON_DISK = "mlflow/artifacts/1/a/artifacts/features.csv"


@pytest.fixture
def program(tmp_path):
    """A program called minio that is not on PATH."""
    path = tmp_path / "programs" / "minio"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def add_data(tmp_path, monkeypatch):
    """A function that adds a file to the data of a stack without data."""
    monkeypatch.setattr(object_store, "BUCKET", tmp_path / "minio" / "mlflow")
    monkeypatch.setattr(object_store, "ON_DISK", tmp_path / "mlflow" / "artifacts")

    def add(name):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()

    return add


@pytest.fixture
def choose(add_data, monkeypatch, tmp_path, capsys):
    """A function that chooses with this ``MINIO`` and PATH, and returns the program and the output."""

    def choose_with(setting=None, path=tmp_path):
        monkeypatch.setenv("PATH", str(path))
        monkeypatch.delenv("MINIO", raising=False)
        if setting is not None:
            monkeypatch.setenv("MINIO", str(setting))
        return object_store.choose(), capsys.readouterr().out

    return choose_with


def test_without_a_program_artifacts_are_on_disk(choose, add_data):
    assert choose() == (None, "")
    add_data(ON_DISK)
    assert choose() == (None, "")


def test_the_program_is_the_setting_or_on_the_path(choose, program):
    assert choose(path=program.parent) == (program, "")
    assert choose(program) == (program, "")
    assert choose("", path=program.parent) == (None, "")


def test_a_program_that_does_not_exist_is_rejected(choose):
    with pytest.raises(LocalError, match=r"MINIO=/no/minio: program not found\. Set MINIO= "):
        choose("/no/minio")


@pytest.mark.parametrize(
    ("files", "store", "kept_by"),
    [
        ([f"{IN_BUCKET}/xl.meta", "minio/.minio.sys/format.json"], "MinIO", "minio"),
        ([IN_BUCKET], "versitygw", "versitygw"),
    ],
)
def test_artifacts_in_an_object_store_stay_there(choose, add_data, program, files, store, kept_by):
    for file in files:
        add_data(file)
    program.with_name("versitygw").symlink_to(program)
    assert choose(program.with_name(kept_by)) == (program.with_name(kept_by), "")
    [other] = {"minio", "versitygw"} - {kept_by}
    for setting in (None, "", program.with_name(other)):
        with pytest.raises(
            LocalError, match=rf"Earlier artifacts are in {store}\..* MINIO=/path/to/{kept_by} make up"
        ):
            choose(setting)


def test_artifacts_on_disk_stay_there(choose, add_data, program):
    add_data(ON_DISK)
    message = "Earlier artifacts are on disk and stay there. To start over with MinIO: make reset."
    assert choose(path=program.parent) == (None, f"{message}\n")
    assert choose("", path=program.parent) == (None, "")
    with pytest.raises(LocalError, match=message):
        choose(program)


def test_a_store_without_artifacts_may_be_changed(choose, add_data, program):
    add_data("minio/.minio.sys/format.json")
    object_store.BUCKET.mkdir()
    object_store.ON_DISK.mkdir(parents=True)
    assert choose() == (None, "")
    assert choose(program) == (program, "")


@pytest.fixture
def connect(tmp_path, monkeypatch):
    """A function that writes a connection of type aws into airflow_settings.yaml."""
    monkeypatch.setattr(airflow_settings, "FILE", tmp_path / "airflow_settings.yaml")

    def write(**fields):
        entry = {"conn_id": "minio_default", "conn_type": "aws", **fields}
        airflow_settings.FILE.write_text(json.dumps({"airflow": {"connections": [entry]}}))

    return write


def test_minio_and_its_clients_use_the_login_of_the_connection(connect):
    connect(conn_login="me", conn_password="geheim")
    variables = object_store.environment(WITH_MINIO)
    assert variables["AWS_ACCESS_KEY_ID"] == variables["MINIO_ROOT_USER"] == "me"
    assert variables["AWS_SECRET_ACCESS_KEY"] == variables["MINIO_ROOT_PASSWORD"] == "geheim"
    assert variables["MLFLOW_S3_ENDPOINT_URL"] == "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    "fields", [{"conn_id": "another"}, {}, {"conn_login": "me"}, {"conn_password": "geheim"}], ids=repr
)
def test_a_missing_login_is_reported(connect, fields):
    connect(**fields)
    with pytest.raises(LocalError, match=r"minio_default in airflow_settings\.yaml has no login") as error:
        supervision.components(WITH_MINIO)
    assert "heim" not in str(error.value)
