"""Every failure that the doctor can report, made to happen; and no failure on a healthy server."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jwt
import mlflow
import pytest
import requests
from airflow.models import Connection

from mlflow_provider.doctor import Result, examination, examine
from mlflow_provider.doctor.checks import FILE
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.server import findings, limits
from mlflow_provider.server.findings import Finding
from mlflow_provider.tracking import runs
from mlflow_proxy import NOT_YOURS, Fault
from mlflow_servers import Answer, free_port, run_mlflow_server, run_replicated_server

VERSION = Answer(body="3.17.2")
ROLE = "arn:aws:iam::123456789012:role/mlflow"
INVALID_CLIENT = '{"error": "invalid_client", "error_description": "unknown client"}'


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A slow test server is not a failure."""
    monkeypatch.setattr(limits, "INTERACTIVE_TIMEOUT", 120.0)


def failure(check: str, finding: Finding, **arguments) -> Result:
    """Examine the connection ``mlflow_default``; return the one check that fails, which must be this one."""
    [failed] = [result for result in examine(**arguments) if result.status == "failed"]
    assert (failed.check, failed.code) == (check, finding.code), failed
    assert "{" not in failed.sentence
    return failed


def test_every_finding_has_a_code_of_its_own_and_the_doctor_is_made_to_report_each_of_its_own_here():
    every = {name: finding for name, finding in vars(findings).items() if isinstance(finding, Finding)}
    of_the_doctor = {finding.code for check in examination.CHECKS for finding in check.findings}
    here = set(re.findall(r"findings\.([A-Z_0-9]+)", Path(__file__).read_text()))

    assert len({finding.code for finding in every.values()}) == len(every)
    assert {every[name].code for name in here} == of_the_doctor | {findings.UNEXPECTED.code}


@pytest.mark.parametrize(
    ("name", "version"), [("airflow-provider-mlflow", "1.1.0"), ("our-own-mlflow-provider", "2.0.0")]
)
def test_a_second_installation_of_the_provider(mlflow_default, tmp_path, monkeypatch, name, version):
    metadata = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "top_level.txt").write_text("mlflow_provider\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

    sentence = failure("installation", findings.OTHER_INSTALLATION).sentence

    assert f"{name} {version} in {tmp_path}" in sentence
    assert "remove airflow-provider-mlflow==1.1.0 from your requirements" in sentence


class TestHealthy:
    def test_a_healthy_server_fails_no_check_and_is_left_as_it_was(
        self, hook, mlflow_server, monkeypatch, name
    ):
        # Distinguishes this experiment from those of tests that run at the same time.
        uuid = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=name))
        monkeypatch.setattr("mlflow_provider.doctor.checks.uuid", uuid)

        results = list(examine())

        assert [result.sentence for result in results if result.status == "failed"] == []
        assert [result.check for result in results if result.status == "skipped"] == ["open runs"]
        by_name = {"experiment_name": f"mlflow_doctor {name}"}
        experiment = hook.call("GET", "experiments/get-by-name", by_name)["experiment"]
        assert experiment["lifecycle_stage"] == "deleted"
        folder = mlflow_server.folder / "artifacts" / experiment["experiment_id"]
        assert list(folder.rglob("*")) == []

    def test_an_experiment_that_is_examined_keeps_its_runs_and_gets_none(
        self, hook, logged_model, mlflow_server
    ):
        assert {result.status for result in examine(experiment="Housing, logged once")} == {"ok", "skipped"}

        left = hook.search_runs([logged_model.experiment_id])
        assert logged_model.run_id in [run["info"]["run_id"] for run in left]
        assert "doctor" not in [run["info"]["run_name"] for run in left]
        folder = mlflow_server.folder / "artifacts" / logged_model.experiment_id
        assert len(list((folder / logged_model.run_id).rglob("folds.json"))) == 1
        assert list(folder.rglob(FILE)) == []

    def test_a_folder_that_worker_and_server_share_is_no_failure(self, hook, name, tmp_path):
        hook.get_or_create_experiment(name, tmp_path.as_uri())

        assert {result.status for result in examine(experiment=name)} == {"ok", "skipped"}

    def test_the_command_line_reports_the_same_and_exits_with_0(self, mlflow_default, tmp_path):
        command = [sys.executable, "-m", "mlflow_provider.doctor", "--json"]
        process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

        report = json.loads(process.stdout)
        assert (report["conn_id"], report["ok"]) == ("mlflow_default", True)
        assert {check["status"] for check in report["checks"]} == {"ok", "skipped"}


class TestTheWayToTheServer:
    @pytest.mark.parametrize(
        ("fields", "check", "finding"),
        [
            (None, "connection", findings.INVALID_FIELD),
            ({"host": ""}, "connection", findings.INVALID_FIELD),
            ({"host": "mlflow", "extra": "no JSON"}, "connection", findings.INVALID_FIELD),
            ({"host": "http://mlflow.invalid:5000"}, "host name", findings.HOST_NOT_RESOLVED),
            ({"host": "localhost", "port": free_port()}, "port", findings.REFUSED_BY_THIS_MACHINE),
            ({"host": "::1", "port": free_port()}, "port", findings.REFUSED_BY_THIS_MACHINE),
            ({"host": "http://255.255.255.255:5000"}, "port", findings.NO_ROUTE),
        ],
    )
    def test_a_connection_that_leads_nowhere(self, airflow_connection, fields, check, finding):
        if fields is not None:
            airflow_connection(**fields)

        # As on the command line: outside of tasks Airflow 3.1 has no other way to look up a connection.
        failure(check, finding, get_connection=Connection.get_connection_from_secrets)

    def test_a_port_of_another_machine_on_which_nothing_listens(self, airflow_connection):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing, but shows our own address
            except OSError:
                pytest.skip("This machine has no address but loopback.")
            airflow_connection(host=probe.getsockname()[0], port=free_port())

        failure("port", findings.CONNECTION_REFUSED)

    def test_a_port_that_takes_no_more_connections(self, airflow_connection, monkeypatch):
        monkeypatch.setattr(limits, "INTERACTIVE_TIMEOUT", 0.5)
        with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for client in (first, second):
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
            airflow_connection(host="127.0.0.1", port=listener.getsockname()[1])

            failure("port", findings.TIMED_OUT)

    def test_a_proxy_that_does_not_respond(self, airflow_connection, monkeypatch):
        airflow_connection(host="http://mlflow.example.com:5000")
        monkeypatch.setenv("http_proxy", f"http://ada:s3cret@127.0.0.1:{free_port()}")

        assert "s3cret" not in failure("port", findings.PROXY_UNREACHABLE).sentence


class TestTheServer:
    def test_one_that_never_answers(self, mlflow_proxy, monkeypatch):
        monkeypatch.setattr(limits, "INTERACTIVE_TIMEOUT", 1.0)
        mlflow_proxy.hangs = True

        failure("server", findings.TIMED_OUT)

    @pytest.mark.parametrize(
        ("answer", "finding"),
        [
            (Answer(0), findings.CONNECTION_CLOSED),
            (Answer(200, headers={"Content-Length": "2, 3"}), findings.MALFORMED_RESPONSE),
            (Answer(429, "<html>slow down"), findings.TOO_MANY_REQUESTS),
            (Answer(503, "<html>bad gateway"), findings.UNAVAILABLE),
            (Answer(404, "<html>nothing here"), findings.NOT_MLFLOW),
            (Answer(200, "<html>another program"), findings.NOT_MLFLOW),
            (Answer(302, headers={"Location": "https://elsewhere/version"}), findings.REDIRECTED),
            (Answer(302, headers={"Location": "/home"}), findings.REDIRECTED_ELSEWHERE),
            (Answer(302, headers={"Location": "https://accounts.example/x"}), findings.LOGIN_PAGE),
            (Answer(200, "<html><form><input type='password'>"), findings.LOGIN_PAGE),
            (Answer(400, "<html>No required SSL certificate"), findings.CLIENT_CERTIFICATE_REJECTED),
            (Answer(body="2.22.0"), findings.VERSIONS_DIFFER),
        ],
    )
    def test_one_that_is_no_mlflow_of_this_version(self, false_server, airflow_connection, answer, finding):
        airflow_connection(host=false_server(answer).url)

        failure("server", finding)

    def test_what_it_says_reaches_no_terminal_as_control_characters(self, false_server, airflow_connection):
        airflow_connection(host=false_server(Answer(body="3.17.2\x1b[31m")).url)

        sentences = [result.sentence for result in examine() if "3.17.2" in result.sentence]

        assert sentences
        assert "\x1b" not in str(sentences)

    def test_one_without_the_workspace(self, mlflow_server, airflow_connection):
        airflow_connection(host=mlflow_server.url, extra={"workspace": "team-a"})

        assert "Extra, workspace" in failure("API", findings.INVALID_FIELD).sentence

    def test_one_whose_replica_lags(self, mlflow_server, airflow_connection, tmp_path):
        with run_replicated_server(mlflow_server, tmp_path, lag=4) as server:
            airflow_connection(host=server.url)

            failure("replica", findings.REPLICA_LAGS)

    @pytest.mark.skipif(
        mlflow.__version__.startswith("3.0."), reason="MLflow 3.0 also searches logged models for artifacts"
    )
    def test_one_without_logged_models(self, mlflow_proxy):
        mlflow_proxy.faults.append(Fault("logged-models", 404))

        failure("logged model", findings.NO_LOGGED_MODELS)

    def test_a_client_whose_distribution_has_another_name(self, mlflow_default, monkeypatch):
        def version(name: str) -> str:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

        assert {result.status for result in examine()} == {"ok", "skipped"}

    def test_one_that_uses_http_or_whose_certificate_is_not_trusted(
        self, false_server, airflow_connection, certificate
    ):
        airflow_connection(host=false_server(VERSION).url.replace("http:", "https:"))
        failure("server", findings.NOT_HTTPS)

        airflow_connection(host=false_server(VERSION, certificate=certificate).url)
        failure("server", findings.CERTIFICATE_NOT_TRUSTED)

        server = false_server(VERSION, certificate=certificate)
        host = server.url.replace("127.0.0.1", "localhost")
        airflow_connection(host=host, extra={"verify": str(certificate)})
        failure("server", findings.CERTIFICATE_FOR_OTHER_HOST)

    def test_one_that_rejects_the_host_name_although_its_health_check_passes(
        self, mlflow_server, airflow_connection
    ):
        airflow_connection(host=mlflow_server.unknown_url)
        assert requests.get(f"{mlflow_server.unknown_url}/health", timeout=60).text == "OK"

        failure("API", findings.HOST_REJECTED)


class TestTheLogin:
    @pytest.fixture
    def mlflow_default(self, mlflow_auth_server, airflow_connection):
        return airflow_connection(**mlflow_auth_server.connection)

    @pytest.mark.parametrize(
        ("extra", "finding"),
        [
            ({"auth": "company"}, findings.AUTH_FAILED),
            ({"auth": "azure", "scope": "x"}, findings.LOGIN_PACKAGE_MISSING),
            ({"auth": "google", "audience": "x"}, findings.IDENTITY_UNAVAILABLE),
            ({"token_file": "/no/such/file"}, findings.TOKEN_FILE_INVALID),
        ],
    )
    def test_one_that_is_not_available_here(
        self, mlflow_server, airflow_connection, monkeypatch, extra, finding
    ):
        monkeypatch.setitem(sys.modules, "azure.identity", None)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")
        airflow_connection(host=mlflow_server.url, extra=extra)

        failure("credentials", finding)

    @pytest.mark.parametrize(
        ("error", "finding", "words"),
        [
            ((401, INVALID_CLIENT), findings.TOKEN_REFUSED, "invalid_client: unknown client"),
            ((200, "{}"), findings.TOKEN_REFUSED, "no access_token"),
            ((503, "busy"), findings.TOKEN_URL_UNREACHABLE, "503 Service Unavailable"),
            ((200, "<html>"), findings.TOKEN_URL_UNREACHABLE, "no token from http://127.0.0.1:"),
        ],
    )
    def test_one_for_which_there_is_no_token(
        self, mlflow_server, identity_provider, airflow_connection, error, finding, words
    ):
        identity_provider.error = error
        airflow_connection(host=mlflow_server.url, **identity_provider.connection)

        assert words in failure("credentials", finding).sentence

    @pytest.mark.parametrize(
        ("answer", "finding"),
        [
            (Answer(401), findings.TOKEN_REJECTED),
            (Answer(401, headers={"Date": "Sun, 01 Nov 2026 00:00:00 GMT"}), findings.CLOCKS_DIFFER),
            (Answer(403, "blocked by policy"), findings.ACCESS_DENIED),
        ],
    )
    def test_one_that_a_gateway_rejects(
        self, false_server, airflow_connection, identity_provider, answer, finding
    ):
        airflow_connection(host=false_server(VERSION, answer).url, **identity_provider.connection)

        failure("login", finding)

    def test_one_whose_token_has_expired(self, false_server, airflow_connection):
        token = jwt.encode({"exp": 1}, "a key of at least thirty-two bytes")
        airflow_connection(host=false_server(VERSION, Answer(401)).url, login="token", password=token)

        failure("login", findings.TOKEN_EXPIRED)

    @pytest.mark.parametrize(
        ("login", "finding"),
        [
            ({}, findings.LOGIN_REQUIRED),
            ({"login": "admin", "password": "a wrong one"}, findings.LOGIN_REJECTED),
        ],
    )
    def test_none_or_a_wrong_one(self, mlflow_auth_server, airflow_connection, login, finding):
        airflow_connection(host=mlflow_auth_server.url, **login)

        assert "a wrong one" not in repr(failure("login", finding))

    def test_one_that_may_only_read(self, hook, mlflow_auth_server, airflow_connection, name):
        hook.get_or_create_experiment(name)
        hook.call("POST", "users/create", {"username": name, "password": "a-password-for-eve"})
        airflow_connection(host=mlflow_auth_server.url, login=name, password="a-password-for-eve")

        failure("experiment", findings.READ_ONLY, experiment=name)

    def test_one_whose_password_is_not_ascii(self, hook, mlflow_auth_server, airflow_connection, name):
        hook.call("POST", "users/create", {"username": name, "password": "пароль-в-тайне"})
        airflow_connection(host=mlflow_auth_server.url, login=name, password="пароль-в-тайне")

        failure("artifact", findings.PASSWORD_NOT_ASCII)

    def test_the_right_one_fails_no_check_and_is_not_shown(self, mlflow_default, mlflow_auth_server):
        results = list(examine())

        assert {result.status for result in results} == {"ok", "skipped"}
        assert mlflow_auth_server.password not in repr(results) + "".join(map(str, results))

    def test_one_that_a_server_repeats_is_not_shown(self, false_server, airflow_connection):
        repeated = Answer(400, '{"error_code": "BAD_REQUEST", "message": "no: 5ecret"}')
        airflow_connection(host=false_server(VERSION, repeated).url, login="eve", password="5ecret")

        assert failure("API", findings.UNEXPECTED).sentence.startswith("no: *** (POST")


class TestTheExperiment:
    def test_one_that_does_not_exist_or_is_deleted(self, hook, name):
        failure("experiment", findings.EXPERIMENT_NOT_FOUND, experiment=name)

        hook.client.delete_experiment(hook.get_or_create_experiment(name))
        failure("experiment", findings.EXPERIMENT_DELETED, experiment=name)

    def test_one_that_cannot_be_deleted(self, mlflow_proxy):
        mlflow_proxy.faults.append(Fault("experiments/delete", 403, NOT_YOURS))

        failure("cleanup", findings.NOT_DELETED)

    def test_one_that_accepts_no_run_and_cannot_be_deleted(self, mlflow_proxy):
        mlflow_proxy.faults += [Fault(path, 403, NOT_YOURS) for path in ("runs/create", "experiments/delete")]

        failed = {result.check: result.code for result in examine() if result.status == "failed"}

        assert failed == {"experiment": findings.READ_ONLY.code, "cleanup": findings.NOT_DELETED.code}


class TestNoCredentials:
    """The second cause of lost artifacts: workers must write to S3, and cannot."""

    @pytest.fixture(scope="class")
    def server(self, tmp_path_factory):
        """A server that does not proxy artifacts, the default of older versions of MLflow."""
        options = ("--no-serve-artifacts", "--default-artifact-root=s3://mlflow/artifacts")
        with run_mlflow_server(tmp_path_factory.mktemp("no-proxy"), None, *options) as server:
            yield server

    @pytest.fixture
    def in_s3(self, hook, name):
        """An experiment in S3, although the server proxies artifacts."""
        hook.get_or_create_experiment(name, "s3://mlflow/housing")
        return name

    @pytest.fixture
    def artifact_connection(self, mlflow_server, airflow_connection):
        """A function that creates a connection to an artifact store and names it in ``mlflow_default``."""

        def create(endpoint: str = "", **extra) -> None:
            extra |= {"endpoint_url": endpoint, "region_name": "us-east-1"}
            keys = {} if "profile_name" in extra else {"login": "ada", "password": "s3cret"}
            airflow_connection("store", conn_type="aws", extra=extra, **keys)
            airflow_connection(host=mlflow_server.url, extra={"artifact_conn_id": "store"})

        return create

    @pytest.fixture(autouse=True)
    def no_key_of_this_machine(self, monkeypatch, tmp_path):
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    def test_a_server_that_does_not_proxy_artifacts(self, server, airflow_connection, name):
        airflow_connection(host=server.url)
        failure("artifact store", findings.S3_KEYS_MISSING)

        MLflowClientHook().get_or_create_experiment(name, "mlflow-artifacts:/housing")
        failure("artifact store", findings.ARTIFACTS_NOT_PROXIED, experiment=name)

    def test_a_worker_without_keys(self, in_s3):
        failure("artifact store", findings.S3_KEYS_MISSING, experiment=in_s3)

    def test_a_worker_without_boto3(self, in_s3, monkeypatch):
        monkeypatch.setitem(sys.modules, "boto3", None)

        failure("artifact store", findings.STORE_PACKAGE_MISSING, experiment=in_s3)

    @pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{port}", "127.0.0.1:{port}"])
    def test_a_store_that_does_not_respond(self, in_s3, artifact_connection, endpoint):
        artifact_connection(endpoint.format(port=free_port()))

        failure("artifact store", findings.STORE_UNREACHABLE, experiment=in_s3)

    @pytest.mark.parametrize(
        ("status", "code", "finding"),
        [
            (403, "InvalidAccessKeyId", findings.S3_KEYS_REJECTED),
            (403, "SignatureDoesNotMatch", findings.S3_KEYS_REJECTED),
            (404, "NoSuchBucket", findings.BUCKET_NOT_FOUND),
            (301, "PermanentRedirect", findings.WRONG_REGION),
            (403, "RequestTimeTooSkewed", findings.CLOCK_SKEW),
            (403, "AccessDenied", findings.BUCKET_FORBIDDEN),
        ],
    )
    def test_a_store_that_refuses(self, in_s3, artifact_connection, false_server, status, code, finding):
        """Errors as in S3's API reference; dev/tests/lifecycle has those of MinIO."""
        artifact_connection(false_server(Answer(status, f"<Error><Code>{code}</Code></Error>")).url)

        assert "s3cret" not in failure("artifact store", finding, experiment=in_s3).sentence

    def test_a_role_that_cannot_be_assumed(self, in_s3, artifact_connection, false_server):
        sts = false_server(
            Answer(403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")
        )
        artifact_connection(role_arn=ROLE, service_config={"sts": {"endpoint_url": sts.url}})

        assert (
            "(AccessDenied)" in failure("artifact store", findings.ROLE_NOT_ASSUMED, experiment=in_s3).finding
        )

    @pytest.mark.parametrize("role", [{}, {"role_arn": ROLE}])
    def test_a_profile_that_this_worker_lacks(self, in_s3, artifact_connection, role):
        artifact_connection(profile_name="gone", **role)

        assert "'gone'" in failure("artifact store", findings.PROFILE_MISSING, experiment=in_s3).finding

    def test_a_role_without_an_identity_to_assume_it(self, in_s3, airflow_connection, mlflow_server):
        airflow_connection("store", conn_type="aws", extra={"role_arn": ROLE})
        airflow_connection(host=mlflow_server.url, extra={"artifact_conn_id": "store"})

        failure("artifact store", findings.S3_KEYS_MISSING, experiment=in_s3)

    def test_a_server_without_the_workers_keys(self, in_s3, artifact_connection, false_server):
        artifact_connection(false_server(Answer(body="<ListBucketResult/>")).url)

        failure("artifact", findings.ARTIFACT_NOT_LISTED, experiment=in_s3)

    def test_a_store_that_refuses_only_to_write(self, in_s3, artifact_connection, false_server):
        refuses = Answer(403, "<Error><Code>AccessDenied</Code></Error>")
        artifact_connection(false_server(Answer(body="<ListBucketResult/>"), refuses).url)

        failure("artifact", findings.ARTIFACT_NOT_WRITTEN, experiment=in_s3)

    @pytest.mark.parametrize("location", ["gs://mlflow/housing", "wasbs://mlflow@a.blob.core.windows.net/b"])
    def test_a_store_for_which_a_package_is_missing(self, hook, name, location):
        hook.get_or_create_experiment(name, location)

        failure("artifact store", findings.STORE_PACKAGE_MISSING, experiment=name)

    @pytest.mark.parametrize(
        ("extra", "finding"),
        [
            ({"key_path": "/gone.json"}, findings.INVALID_FIELD),
            ({"keyfile_dict": {"type": "service_account"}}, findings.GOOGLE_KEY_REJECTED),
        ],
    )
    def test_a_google_key_that_is_missing_or_incomplete(
        self, hook, name, mlflow_server, airflow_connection, monkeypatch, extra, finding
    ):
        monkeypatch.setitem(sys.modules, "google.cloud.storage", SimpleNamespace())  # not installed here
        hook.get_or_create_experiment(name, "gs://mlflow/housing")
        airflow_connection("store", conn_type="google_cloud_platform", extra=extra)
        airflow_connection(host=mlflow_server.url, extra={"artifact_conn_id": "store"})

        failure("artifact store", finding, experiment=name)


class TestTheArtifact:
    def test_a_store_that_the_server_cannot_write_to(self, hook, mlflow_server, name):
        store = mlflow_server.folder / "artifacts"
        store.mkdir(exist_ok=True)
        (store / hook.get_or_create_experiment(name)).write_text("a file in place of the folder")

        # Which check fails depends on the version of MLflow.
        [failed] = [result for result in examine(experiment=name) if result.status == "failed"]
        assert failed.check in ("artifact store", "artifact")
        assert failed.sentence == str(findings.SERVER_STORE_FAILED)

    def test_a_server_that_leaves_it_to_newer_clients(self, mlflow_proxy):
        """As MLflow 3.18 does with --artifacts-presigned-only."""
        message = "Upgrade your MLflow client to match this server (MLflow 3.18.0) or a newer version"
        mlflow_proxy.faults += [
            Fault("PUT /api/2.0/mlflow-artifacts", 403, json.dumps({"message": message})),
            Fault("server-info", 200, '{"artifacts_presigned_only":true}'),
        ]

        assert "install mlflow 3.18.0" in failure("artifact", findings.CLIENT_TOO_OLD).fix
        assert "the server proxies nothing" in " ".join(result.finding for result in examine())

    def test_a_server_that_leaves_it_to_workers_that_do_not_reach_the_store(self, mlflow_proxy, monkeypatch):
        monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
        monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
        part = {"url": f"http://127.0.0.1:{free_port()}/part", "part_number": 1, "headers": {}}
        upload = {"upload_id": "1", "credentials": [part]}
        mlflow_proxy.faults.append(Fault("mpu/create", 200, json.dumps(upload)))

        failure("artifact", findings.STORE_NOT_REACHED)

    def test_one_that_a_proxy_changes(self, mlflow_proxy):
        mlflow_proxy.changed.append(FILE)

        failure("artifact", findings.ARTIFACT_CHANGED)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="A folder for each process needs Linux.")
class TestOwnDisk:
    """The third cause: an artifact on a worker's disk, which neither the server nor the next task sees.

    ``/proc/self/cwd`` is a different folder for each process, as a path is on each machine.
    """

    @pytest.fixture
    def on_own_disk(self, hook, name):
        hook.get_or_create_experiment(name, "file:///proc/self/cwd/doctor-artifacts")
        return name

    def test_an_artifact_that_the_server_does_not_see(self, on_own_disk, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)

        failure("artifact", findings.ARTIFACT_ON_WORKER, experiment=on_own_disk)
        assert list(tmp_path.rglob(FILE)) == []

    def test_an_artifact_that_the_next_task_does_not_see(self, on_own_disk, monkeypatch, mlflow_server):
        monkeypatch.chdir(mlflow_server.folder)  # this process sees the server's files, the next does not

        failure("next task", findings.ARTIFACT_NOT_SHARED, experiment=on_own_disk)


class TestNoTrackingUri:
    """The first cause: without a tracking URI, the ``mlflow`` package logged to this folder."""

    TRAINING = "import mlflow; mlflow.start_run(); mlflow.log_text('.', 'a.txt')"

    def test_runs_in_the_working_directory(self, mlflow_default, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        subprocess.run([sys.executable, "-c", self.TRAINING], check=True, capture_output=True)

        assert str(tmp_path) in failure("this disk", findings.RUNS_ON_WORKER).sentence

    def test_a_store_that_is_the_servers_own_is_no_failure(
        self, hook, logged_model, mlflow_server, monkeypatch
    ):
        monkeypatch.chdir(mlflow_server.folder)
        assert Path("mlflow.db").exists()

        assert {result.status for result in examine()} == {"ok", "skipped"}


class TestOpenRuns:
    @pytest.fixture
    def run_ids(self, hook, name, monkeypatch):
        """RUNNING runs of mapped task instances, by map index, of a separate Airflow."""
        monkeypatch.setenv("AIRFLOW__MLFLOW__INSTANCE", name)
        experiment_id = hook.get_or_create_experiment(name)
        tags = {**runs.dag_run_tags("dag", "manual"), "airflow.task_id": "train"}

        def create(map_index: int) -> str:
            run = runs.create(hook, experiment_id, "train", {"airflow.map_index": str(map_index)}, tags)
            return run.run_id

        return [create(map_index) for map_index in range(4)]

    @pytest.fixture
    def task_instance(self):
        """A function that returns a task instance for which Airflow reports these states, by map index.

        dev/tests/mlflow queries a real Airflow.
        """

        def create(*states: str | None) -> SimpleNamespace:
            reported = {"manual": {f"train_{map_index}": state for map_index, state in enumerate(states)}}
            return SimpleNamespace(get_task_states=lambda dag_id, run_ids: reported)

        return create

    def test_those_whose_tasks_have_ended_or_are_gone_are_reported(self, run_ids, task_instance, hook):
        states = task_instance("failed", "running", "success")

        sentence = failure("open runs", findings.OPEN_RUNS, task_instance=states).sentence

        assert [run_id in sentence for run_id in run_ids] == [True, False, True, True]
        assert self.statuses(hook, run_ids) == ["RUNNING"] * 4

    def test_those_whose_tasks_continue_are_no_failure(self, run_ids, task_instance):
        results = examine(task_instance=task_instance("running", "up_for_retry", "deferred", None))

        assert {result.status for result in results} == {"ok"}

    def test_they_are_ended_on_request(self, run_ids, task_instance, hook):
        ended = task_instance("failed", "running", "success", "skipped")

        results = list(examine(task_instance=ended, close_open_runs=True))

        assert results[-1].finding == "closed 3"
        assert self.statuses(hook, run_ids) == ["KILLED", "RUNNING", "KILLED", "KILLED"]

    @staticmethod
    def statuses(hook, run_ids) -> list[str]:
        result = [hook.get_run(run_id) for run_id in run_ids]
        return [run["info"]["status"] for run in result]


def test_the_command_line_fits_80_columns_has_codes_and_exits_with_1(airflow_connection):
    airflow_connection(host=f"http://localhost:{free_port()}")
    command = [sys.executable, "-m", "mlflow_provider.doctor"]
    environment = {**os.environ, "COLUMNS": "80"}

    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    as_json = subprocess.run([*command, "--json"], capture_output=True, check=False)
    report = json.loads(as_json.stdout)

    assert process.returncode == 1
    assert max(map(len, process.stdout.splitlines())) <= 80
    assert "FAILED  port" in process.stdout
    assert "-> start the server" in process.stdout
    assert report["ok"] is False
    [failed] = [check for check in report["checks"] if check["status"] == "failed"]
    assert (failed["check"], failed["code"]) == ("port", "refused-by-this-machine")
    assert failed["finding"].endswith(findings.REFUSED_BY_THIS_MACHINE.finding)
    assert failed["fix"] == findings.REFUSED_BY_THIS_MACHINE.fix
