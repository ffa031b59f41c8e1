"""The artifact store is down, full, gone or rejects requests, behind MLflow or accessed by tasks."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from dev import MissingError
from dev.tests.helpers.object_store import KEYS, REGION, Store
from dev.tests.helpers.outages import Server, clear, reported_by_airflow
from dev.tools.minio import minio_binary
from mlflow_provider import task_run
from mlflow_provider.server import findings
from tries import status_of

SERVER_SAYS = "the task's error: the upload failed; its log: MLflow cannot use its own artifact store"
TMPFS_BYTES = 4_000_000


@pytest.fixture(scope="module")
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(minio_binary(), tmp_path_factory.mktemp("minio"))
    yield store
    store.kill()


@pytest.fixture
def store(_store: Store) -> Store:
    """A running store with its bucket, both of which a test may remove."""
    _store.start()
    return _store


@pytest.fixture(scope="module")
def _server_of_store(tmp_path_factory: pytest.TempPathFactory, _store: Store) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("behind") / "mlflow"
    server = Server(folder, "--artifacts-destination=s3://mlflow/artifacts")
    keys = dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), KEYS, strict=True))
    address = {"AWS_DEFAULT_REGION": REGION, "MLFLOW_S3_ENDPOINT_URL": _store.url}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**keys, **address}.items():
            environment.setenv(name, value)
        server.start()
    yield server
    server.kill()


@pytest.fixture
def mlflow_default(request: pytest.FixtureRequest, airflow_connection: Callable[..., str]) -> str:
    """A connection with three requests instead of seven, which would take two minutes."""
    name = "server" if "server" in request.fixturenames else "mlflow_server"
    return airflow_connection(host=request.getfixturevalue(name).url, extra={"retries": 0})


@pytest.fixture
def log_artifact(a_try, experiment) -> Callable[[], str]:
    """A function that runs a task that logs an artifact, and returns the ID of its MLflow run."""

    def run() -> str:
        import mlflow

        with reported_by_airflow(), task_run(context=a_try.context, experiment=experiment) as active:
            mlflow.log_text("1,2,3", "features.csv")
        return active.info.run_id

    return run


@pytest.fixture
def goes_green(a_try, log_artifact, runs, hook, fault_is_over):
    """A function that clears the task and checks that it then succeeds."""

    def check() -> None:
        fault_is_over()
        clear(a_try)
        run_id = log_artifact()
        assert status_of(runs()) == ["FAILED", "FINISHED"]
        with hook.tracking() as client:
            assert Path(client.download_artifacts(run_id, "features.csv")).read_text() == "1,2,3"

    return check


class TestBehindMlflow:
    """Artifacts pass through the server, which has the keys."""

    @pytest.fixture
    def server(self, _server_of_store: Server) -> Server:
        return _server_of_store

    @pytest.mark.parametrize(
        ("break_", "repair"),
        [
            pytest.param(
                Store.kill,
                Store.start,
                marks=pytest.mark.fault(
                    "The object store behind MLflow is down",
                    sees=SERVER_SAYS,
                    green="with *Clear*, when it is up",
                ),
            ),
            pytest.param(
                Store.lose_bucket,
                Store.create_bucket,
                marks=pytest.mark.fault(
                    "The bucket behind MLflow is gone",
                    sees=SERVER_SAYS,
                    green="with *Clear*, when there is a bucket",
                ),
            ),
        ],
    )
    def test_a_task_fails_and_its_log_names_the_store(
        self, server, store, log_artifact, goes_green, caplog, break_, repair
    ):
        break_(store)
        with pytest.raises(Exception, match="mlflow-artifacts"):
            log_artifact()
        assert str(findings.SERVER_STORE_FAILED) in caplog.text
        repair(store)
        goes_green()


class TestDisk:
    @pytest.fixture
    def small_disk(self, tmp_path) -> Iterator[Path]:
        """A folder on its own small disk."""
        folder = tmp_path / "disk"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
            raise MissingError("Mounting a disk needs root.")
        yield folder
        subprocess.run(["umount", "--lazy", folder], check=True)

    @pytest.fixture
    def server(self, tmp_path, small_disk) -> Iterator[Server]:
        server = Server(tmp_path / "mlflow", f"--artifacts-destination={small_disk}")
        server.start()
        yield server
        server.kill()

    @pytest.mark.fault(
        "The disk of MLflow's artifacts is full", sees=SERVER_SAYS, green="with *Clear*, when there is room"
    )
    def test_a_task_fails_while_the_disk_is_full(self, server, small_disk, log_artifact, goes_green, caplog):
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(2 * TMPFS_BYTES))
        with pytest.raises(Exception, match="mlflow-artifacts"):
            log_artifact()
        assert str(findings.SERVER_STORE_FAILED) in caplog.text
        ballast.unlink()
        goes_green()


class TestDirect:
    """The experiment is in S3, and tasks write there directly with the keys of a connection."""

    @pytest.fixture
    def connect(self, mlflow_server, store, airflow_connection) -> Callable[..., None]:
        """A function that gives ``mlflow_default`` an artifact connection to the store."""

        def connect(login: str = KEYS[0], password: str = KEYS[1]) -> None:
            extra = {"endpoint_url": store.url, "region_name": REGION}
            airflow_connection("store", conn_type="aws", login=login, password=password, extra=extra)
            airflow_connection(host=mlflow_server.url, extra={"artifact_conn_id": "store", "retries": 0})

        return connect

    @pytest.fixture(autouse=True)
    def _in_s3(self, mlflow_default, connect, hook, experiment) -> None:
        connect()
        hook.get_or_create_experiment(experiment, artifact_location="s3://mlflow/housing")

    @pytest.mark.fault(
        "The object store that tasks write to is down",
        sees="the task's error names the store's address; its log: the artifact store does not respond",
        green="with *Clear*, when it is up",
    )
    def test_a_task_fails_while_the_store_is_down(self, store, log_artifact, goes_green, caplog):
        store.kill()
        with pytest.raises(Exception, match=re.escape(store.url)):
            log_artifact()
        assert str(findings.STORE_UNREACHABLE.format(endpoint=store.url)) in caplog.text
        store.start()
        goes_green()

    @pytest.mark.fault(
        "The keys of the object store are wrong",
        sees="the task's error: SignatureDoesNotMatch; its log: the artifact store rejects the keys",
        green="with *Clear*, when the artifact connection is corrected",
    )
    def test_a_task_fails_with_a_wrong_key(self, connect, log_artifact, goes_green, caplog):
        connect(password="another secret")
        with pytest.raises(Exception, match="SignatureDoesNotMatch"):
            log_artifact()
        assert str(findings.S3_KEYS_REJECTED.format(code="SignatureDoesNotMatch")) in caplog.text
        connect()
        goes_green()

    @pytest.mark.fault(
        "The bucket is gone",
        sees="the task's error: NoSuchBucket; its log: the artifact store has no bucket 'mlflow'",
        green="with *Clear*, when there is a bucket",
    )
    def test_a_task_fails_while_the_bucket_is_gone(self, store, log_artifact, goes_green, caplog):
        store.lose_bucket()
        with pytest.raises(Exception, match="NoSuchBucket"):
            log_artifact()
        assert str(findings.BUCKET_NOT_FOUND.format(bucket="mlflow")) in caplog.text
        store.create_bucket()
        goes_green()

    @pytest.mark.fault(
        "The clock of the worker is an hour off",
        sees="the task's error: RequestTimeTooSkewed; its log: the clocks are out of sync",
        green="with *Clear*, when the clock is right",
    )
    def test_a_task_fails_where_the_clock_is_an_hour_off(self, log_artifact, goes_green, caplog):
        with pytest.MonkeyPatch.context() as clock:
            ahead = datetime.now(timezone.utc) + timedelta(hours=1)
            clock.setattr("botocore.auth.get_current_datetime", lambda: ahead.replace(tzinfo=None))
            with pytest.raises(Exception, match="RequestTimeTooSkewed"):
                log_artifact()
        assert str(findings.CLOCK_SKEW) in caplog.text
        goes_green()
