"""Tasks write to MinIO with each kind of AWS connection, and sessions of its STS are renewed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import requests

from dev.tests.helpers.object_store import KEYS, REGION, Store
from http_servers import Handler, run_http_server
from mlflow_provider.hooks.client import MLflowClientHook

LOG = "import mlflow, sys; mlflow.MlflowClient().log_text(sys.argv[1], '1,2,3', 'program.csv')"
ROLE = {"role_arn": "arn:aws:iam::123456789012:role/mlflow", "assume_role_kwargs": {"DurationSeconds": 900}}
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{recorder.url}/container"}
SERVICE_ACCOUNT = {"AWS_ROLE_ARN": ROLE["role_arn"], "AWS_WEB_IDENTITY_TOKEN_FILE": "{worker}/token"}
WEB_IDENTITY = f"""\
<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>{KEYS[0]}</AccessKeyId><SecretAccessKey>{KEYS[1]}</SecretAccessKey><SessionToken></SessionToken>
<Expiration>2100-01-01T00:00:00Z</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


@dataclass
class Recorder:
    """A proxy in front of MinIO, which also gives a container and a service account an identity.

    It says that sessions of STS expire in a minute, so that clients renew them before each request.

    :param url: its address.
    :param sessions: access keys of the sessions that STS has created.
    :param used: access keys of the requests to S3.
    """

    url: str = ""
    sessions: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)


@contextmanager
def record(store: str) -> Iterator[Recorder]:
    class RecordingHandler(Handler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/container":
                identity = {"AccessKeyId": KEYS[0], "SecretAccessKey": KEYS[1], "Token": ""}
                self.respond(200, json.dumps({**identity, "Expiration": "2100-01-01T00:00:00Z"}).encode())
                return
            if b"Action=AssumeRoleWithWebIdentity" in body:
                assert b"WebIdentityToken=t0ken" in body
                self.respond(200, WEB_IDENTITY.encode())
                return
            # With the client's Host, which is signed.
            response = requests.request(
                self.command, store + self.path, data=body, headers=dict(self.headers)
            )
            content = response.content
            if b"Action=AssumeRole" in body:
                recorder.sessions += re.findall(r"<AccessKeyId>(\w+)<", response.text)
                soon = (datetime.now(timezone.utc) + timedelta(minutes=1)).isoformat()
                content = re.sub(rb"(?<=<Expiration>)[^<]+", soon.encode(), content)
            else:
                recorder.used += re.findall(r"Credential=([\w-]+)/", self.headers["Authorization"])
            self.respond(response.status_code, content)

        do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815

        def respond(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with run_http_server(RecordingHandler) as url:
        recorder = Recorder(url)
        yield recorder


@pytest.fixture(scope="module")
def store(required_minio: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = Store(required_minio, tmp_path_factory.mktemp("minio"))
    yield store.url
    store.kill()


@pytest.fixture
def recorder(store: str) -> Iterator[Recorder]:
    with record(store) as recorder:
        yield recorder


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a worker whose profile `ml` has keys."""
    names = ("aws_access_key_id", "aws_secret_access_key")
    lines = [f"{name} = {key}" for name, key in zip(names, KEYS, strict=True)]
    (tmp_path / "config").write_text("\n".join(["[profile ml]", *lines]))
    (tmp_path / "token").write_text("t0ken")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize(
    ("identity", "role", "variables"),
    [
        pytest.param({"login": KEYS[0], "password": KEYS[1]}, ROLE, {}, id="role-keys"),
        pytest.param({"extra": {"profile_name": "ml"}}, {}, {}, id="profile"),
        pytest.param({"extra": {"profile_name": "ml"}}, ROLE, {}, id="role-profile"),
        pytest.param({}, {}, CONTAINER, id="container"),
        pytest.param({}, ROLE, CONTAINER, id="role-container"),
        pytest.param({}, ROLE, SERVICE_ACCOUNT, id="role-service-account"),
    ],
)
def test_a_task_and_a_program_that_it_starts_write_and_renew_the_session_of_a_role(
    identity, role, variables, worker, recorder, mlflow_server, airflow_connection, monkeypatch, caplog
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(worker=worker, recorder=recorder))
    addresses = {"endpoint_url": recorder.url, "service_config": {"sts": {"endpoint_url": recorder.url}}}
    extra = {"region_name": REGION, **addresses, **identity.get("extra", {}), **role}
    airflow_connection("store", **{"conn_type": "aws", **identity, "extra": extra})
    airflow_connection(host=mlflow_server.url, extra={"artifact_conn_id": "store"})
    hook = MLflowClientHook()
    experiment_id = hook.get_or_create_experiment(uuid.uuid4().hex, "s3://mlflow/housing")

    with hook.tracking() as client:
        import mlflow

        with mlflow.start_run(experiment_id=experiment_id) as run:
            for number in range(2):
                mlflow.log_text("1,2,3", f"{number}.csv")
            subprocess.run([sys.executable, "-c", LOG, run.info.run_id], check=True)
        written = [file.path for file in client.list_artifacts(run.info.run_id)]

    assert written == ["0.csv", "1.csv", "program.csv"]
    assert list((worker / "tmp").glob("airflow-mlflow-*")) == []
    assert KEYS[1] not in caplog.text
    if role:
        assert len(recorder.sessions) >= 4
        assert {*recorder.used} <= {*recorder.sessions}
        assert len({*recorder.used}) >= 4
    else:
        assert {*recorder.used} == {KEYS[0]}
