"""Tasks write to Azure Blob Storage and Google Cloud Storage with each kind of connection.

Azurite and fake-gcs-server stand for the stores, with the real clients of MLflow. fake-gcs-server accepts
everyone, so the token address that a key of Google Cloud names checks the key's signature.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from dev import MissingError
from dev.waiting import wait_until
from http_servers import Handler, run_http_server
from local_stack.settings import LOCAL
from mlflow_provider.doctor import examine
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_servers import free_port

AZURITE = "azurite@3.35.0"
FAKE_GCS = "github.com/fsouza/fake-gcs-server@v1.56.1"
ACCOUNT = "housing"
ACCOUNT_KEY = base64.b64encode(b"a key that only Azurite and these tests know").decode()
LOG = "import mlflow, sys; mlflow.MlflowClient().log_text(sys.argv[1], '1,2,3', 'program.csv')"


def required(command: str) -> str:
    if path := shutil.which(command):
        return path
    raise MissingError(f"There is no {command} on PATH.")


def package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingError(f"{name} is not installed. Run `make -C dev object-stores`.") from None


@contextmanager
def run(command: list[str], url: str, **environment: str) -> Iterator[None]:
    """Run a server until the end of the block."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    try:
        wait_until(f"{url} responds", lambda: requests.get(url, timeout=5).status_code)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def azurite() -> Iterator[str]:
    """The address of the account in a running Azurite, with a container ``mlflow``."""
    service = package("azure.storage.blob").BlobServiceClient
    command = [required("npx"), "--yes", "--package", AZURITE, "azurite-blob"]
    port = free_port()
    command += ["--blobPort", str(port), "--silent", "--skipApiVersionCheck", "--inMemoryPersistence"]
    url = f"http://127.0.0.1:{port}/{ACCOUNT}"
    with run(command, url, AZURITE_ACCOUNTS=f"{ACCOUNT}:{ACCOUNT_KEY}"):
        service(url, ACCOUNT_KEY).create_container("mlflow")
        yield url


@pytest.fixture(scope="module")
def fake_gcs() -> Iterator[str]:
    """The address of a running fake-gcs-server with a bucket ``mlflow``."""
    package("google.cloud.storage")
    folder = LOCAL / "object-stores"
    subprocess.run(
        [required("go"), "install", FAKE_GCS], env={**os.environ, "GOBIN": str(folder)}, check=True
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(folder / "fake-gcs-server"), "-scheme=http", "-host=127.0.0.1", f"-port={port}"]
    with run([*command, "-backend=memory", f"-external-url={url}"], f"{url}/storage/v1/b"):
        assert requests.post(f"{url}/storage/v1/b", json={"name": "mlflow"}, timeout=60).ok
        yield url


@pytest.fixture
def google_key(fake_gcs: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The key of a service account. Its token address checks the key's signature; a token lives a second."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    class TokenHandler(Handler):
        def do_POST(self) -> None:  # noqa: N802
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            tokens.append(jwt.decode(form["assertion"][0], certs=public)["iss"])
            body = json.dumps({"access_token": "ya29", "expires_in": 1, "token_type": "Bearer"}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

    tokens: list[str] = []
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", fake_gcs)
    with run_http_server(TokenHandler) as url:
        yield {
            "type": "service_account",
            "project_id": "housing",
            "client_email": "mlflow@housing.iam.gserviceaccount.com",
            "private_key": pem.decode(),
            "token_uri": url,
        }
    assert len(tokens) > 3  # renewed, also by the program


@pytest.fixture
def write(
    mlflow_server: Any,
    airflow_connection: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> Callable[..., None]:
    """A function that writes artifacts to a place from a task and from a program that it starts."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def check(place: str, secret: str, **connection: Any) -> None:
        airflow_connection("store", **connection)
        airflow_connection(host=mlflow_server.url, extra={"artifact_conn_id": "store"})
        hook = MLflowClientHook()
        name = uuid.uuid4().hex
        experiment_id = hook.get_or_create_experiment(name, place)
        with hook.tracking() as client:
            run_id = client.create_run(experiment_id).info.run_id
            client.log_text(run_id, "1,2,3", "task.csv")
            subprocess.run([sys.executable, "-c", LOG, run_id], check=True)
            files = [file.path for file in client.list_artifacts(run_id)]
            assert Path(client.download_artifacts(run_id, "program.csv")).read_text() == "1,2,3"
        assert files == ["program.csv", "task.csv"]
        assert list(tmp_path.glob("airflow-mlflow-*")) == []
        assert secret not in caplog.text
        [store] = [result for result in examine(experiment=name) if result.check == "artifact store"]
        assert store.status == "ok", store

    return check


def sas(url: str) -> str:
    blob = package("azure.storage.blob")
    return blob.generate_account_sas(
        ACCOUNT,
        ACCOUNT_KEY,
        blob.ResourceTypes(container=True, object=True),
        blob.AccountSasPermissions(read=True, write=True, list=True, create=True),
        datetime.now(timezone.utc) + timedelta(hours=1),
    )


@pytest.mark.parametrize(
    "connection",
    [
        pytest.param(lambda url: {"host": url, "login": ACCOUNT, "password": ACCOUNT_KEY}, id="key"),
        pytest.param(
            lambda url: {
                "extra": {
                    "connection_string": f"BlobEndpoint={url};AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY}"
                }
            },
            id="connection-string",
        ),
        pytest.param(lambda url: {"host": url, "extra": {"sas_token": sas(url)}}, id="sas"),
    ],
)
def test_azure_blob_storage(azurite, write, connection):
    fields = connection(azurite)
    place = f"wasbs://mlflow@{ACCOUNT}.blob.core.windows.net/housing"

    write(place, fields.get("extra", {}).get("sas_token", ACCOUNT_KEY), conn_type="wasb", **fields)


def test_google_cloud_storage_with_a_key_in_the_connection(google_key, write):
    extra = {"keyfile_dict": json.dumps(google_key)}

    write("gs://mlflow/a", google_key["private_key"], conn_type="google_cloud_platform", extra=extra)


def test_google_cloud_storage_with_a_key_file(google_key, write, tmp_path):
    (tmp_path / "key.json").write_text(json.dumps(google_key))
    extra = {"key_path": str(tmp_path / "key.json")}

    write("gs://mlflow/b", google_key["private_key"], conn_type="google_cloud_platform", extra=extra)
