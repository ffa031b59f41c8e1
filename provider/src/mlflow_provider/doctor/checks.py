"""Checks, in the order an artifact travels."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import ipaddress
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from mlflow_provider.doctor.examination import (
    CHECKS,
    Examination,
    Result,
    Skipped,
    check,
)
from mlflow_provider.exceptions import MLflowAPIError, MLflowNotFoundError, MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.process import mlflow_private
from mlflow_provider.server import findings, limits
from mlflow_provider.server.package_errors import cause_of
from mlflow_provider.server.replica import until_visible
from mlflow_provider.tracking import runs
from mlflow_provider.tracking.open_runs import has_ended

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from mlflow_provider.server.findings import Finding
    from mlflow_provider.tracking.runs import Run

DISTRIBUTION = "airflow-provider-mlflow"
FILE = "doctor.bin"
TOLERATED_LAG = 2  # seconds; beyond it, tasks have to wait
MAX_LAG_SECONDS = 20
# With which MLflow writes to a store: module and distribution by the scheme of the artifact's URI.
STORE_PACKAGES = {
    "s3": ("boto3", "boto3"),
    "gs": ("google.cloud.storage", "google-cloud-storage"),
    "wasbs": ("azure.storage.blob", "azure-storage-blob"),
    "abfss": ("azure.storage.filedatalake", "azure-storage-file-datalake"),
}
# Runs in another process, as the next task does.
READ_ARTIFACT = """
import hashlib, mlflow, pathlib, sys
path = mlflow.artifacts.download_artifacts(run_id=sys.argv[1], artifact_path=sys.argv[2])
print(hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest())
"""


def examine(
    conn_id: str = MLflowClientHook.default_conn_name,
    *,
    experiment: str | None = None,
    task_instance: Any = None,
    close_open_runs: bool = False,
    get_connection: Callable[[str], Connection] = BaseHook.get_connection,
) -> Iterator[Result]:
    """Trace an artifact to MLflow and back, and yield the result of each check.

    Everything that it creates in MLflow is deleted again. It takes seconds, or a little longer when a server
    does not respond.

    :param conn_id: connection of type ``mlflow``.
    :param experiment: name of the experiment to examine; by default a new one, as a new DAG would create it.
    :param task_instance: the calling task's ``context["ti"]``, needed to find runs that are RUNNING in MLflow
        although their tasks have ended.
    :param close_open_runs: whether to end those runs as KILLED.
    :param get_connection: looks up a connection.
    """
    examination = Examination(conn_id, get_connection, experiment, task_instance, close_open_runs)
    succeeded: set[str] = set()
    with examination.cleanup:
        for each in CHECKS:
            if each.after and each.after.title not in succeeded:
                yield Result(each.title, "skipped", "not checked")
                continue
            result = each.result(examination)
            if result.status == "ok":
                succeeded.add(result.check)
            yield result


@check("installation", None, findings.OTHER_INSTALLATION)
def installation(_: Examination) -> str:
    """``mlflow_provider`` is installed once, and not in version 1."""
    names = {DISTRIBUTION, *importlib.metadata.packages_distributions().get("mlflow_provider", ())}
    installed = {  # a set, because sys.path may contain a folder twice
        f"{name} {each.version} in {Path(str(each.locate_file(''))).resolve()}"
        for name in names
        for each in importlib.metadata.distributions(name=name)
    }
    listed = ", ".join(sorted(installed))
    if len(installed) > 1 or f"{DISTRIBUTION} 1." in listed:
        raise MLflowProviderError(findings.OTHER_INSTALLATION.format(installed=listed))
    return listed or "copied, not installed"


@check("connection", None, findings.INVALID_FIELD)
def connection(examination: Examination) -> str:
    """The connection exists and is complete."""
    conn = examination.connection
    login = str(conn.login)
    return f"{conn.url}, with the login {login}" if login else f"{conn.url}, without a login"


@check("host name", connection, findings.HOST_NOT_RESOLVED)
def host_name(examination: Examination) -> str:
    """The host name resolves."""
    host, number = examination.address
    try:
        addresses = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise MLflowProviderError(findings.HOST_NOT_RESOLVED.about(host)) from None
    return f"{host} resolves to {addresses[0][4][0]}"


@check(
    "port",
    host_name,
    findings.CONNECTION_REFUSED,
    findings.REFUSED_BY_THIS_MACHINE,
    findings.TIMED_OUT,
    findings.NO_ROUTE,
    findings.PROXY_UNREACHABLE,
)
def port(examination: Examination) -> str:
    """The port accepts connections."""
    host, number = examination.address
    try:
        socket.create_connection((host, number), limits.INTERACTIVE_TIMEOUT).close()
    except OSError as error:
        if examination.proxy:
            finding = findings.PROXY_UNREACHABLE.format(proxy=examination.proxy)
        elif isinstance(error, TimeoutError):
            finding = findings.TIMED_OUT
        elif not isinstance(error, ConnectionRefusedError):
            finding = findings.NO_ROUTE.format(error=error.strerror)
        elif _is_this_machine(host):
            finding = findings.REFUSED_BY_THIS_MACHINE
        else:
            finding = findings.CONNECTION_REFUSED
        raise MLflowProviderError(finding.about(f"{host}, port {number}")) from None
    return f"port {number} of a proxy is open" if examination.proxy else f"port {number} is open"


def _is_this_machine(host: str) -> bool:
    addresses = {str(address[0]).partition("%")[0] for *_, address in socket.getaddrinfo(host, None)}
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)


@check(
    "credentials",
    port,
    findings.AUTH_FAILED,
    findings.LOGIN_PACKAGE_MISSING,
    findings.TOKEN_FILE_INVALID,
    findings.TOKEN_URL_UNREACHABLE,
    findings.TOKEN_REFUSED,
    findings.IDENTITY_UNAVAILABLE,
)
def credentials(examination: Examination) -> str:
    """The login method has a login for a request."""
    import requests

    session = examination.hook.get_conn()
    session.prepare_request(requests.Request("GET", examination.connection.url))
    return str(examination.connection.login) or "none"


@check(
    "server",
    credentials,
    findings.TIMED_OUT,
    findings.NOT_MLFLOW,
    findings.NOT_HTTPS,
    findings.CERTIFICATE_NOT_TRUSTED,
    findings.CERTIFICATE_FOR_OTHER_HOST,
    findings.CLIENT_CERTIFICATE_REJECTED,
    findings.CONNECTION_CLOSED,
    findings.MALFORMED_RESPONSE,
    findings.TOO_MANY_REQUESTS,
    findings.UNAVAILABLE,
    findings.REDIRECTED,
    findings.REDIRECTED_ELSEWHERE,
    findings.LOGIN_PAGE,
    findings.VERSIONS_DIFFER,
)
def server(examination: Examination) -> str:
    """The server is MLflow, in a version that fits the client here."""
    import mlflow

    from mlflow_provider.server import rest

    client = mlflow.__version__  # the distribution may be mlflow-skinny, mlflow, or a build of one's own
    if examination.connection.is_databricks:
        return f"Databricks; mlflow here is {client}"
    # Without the workspace, because MLflow would respond with an error of the workspace instead.
    response = examination.hook.run("version", {"X-MLFLOW-WORKSPACE": ""})
    if response.status_code in (401, 403):
        return "requires a login before it reports its version"
    version = response.text.strip()
    if not response.ok or not re.fullmatch(r"\d+\.\d+\S*", version):
        not_mlflow = findings.NOT_MLFLOW.format(request="GET version")
        finding = rest.finding_of_page(response, "GET version") or not_mlflow
        raise MLflowProviderError(finding.about(response.url))
    if version.split(".")[0] != client.split(".")[0]:
        raise MLflowProviderError(findings.VERSIONS_DIFFER.format(server=version, client=client))
    return f"MLflow {version}; mlflow here is {client}"


def _call_api(examination: Examination) -> None:
    examination.hook.call("POST", "experiments/search", {"max_results": 1})


OF_LOGIN = (
    findings.LOGIN_REQUIRED,
    findings.LOGIN_REJECTED,
    findings.TOKEN_REJECTED,
    findings.TOKEN_EXPIRED,
    findings.CLOCKS_DIFFER,
    findings.ACCESS_DENIED,
)


@check("API", server, findings.HOST_REJECTED, findings.INVALID_FIELD)
def api(examination: Examination) -> str:
    """The API accepts this host name and has the workspace; ``/health`` accepts any host name."""
    try:
        _call_api(examination)
    except MLflowAPIError as error:
        is_of_login = error.finding and error.finding.code in [each.code for each in OF_LOGIN]
        if not is_of_login:  # otherwise the next check reports it
            raise
    return f"accepts the host name {urlsplit(examination.connection.url).netloc}"


@check("login", api, *OF_LOGIN)
def login(examination: Examination) -> str:
    """The login is accepted."""
    _call_api(examination)
    return "accepted" if str(examination.connection.login) else "not required"


@check("experiment", login, findings.READ_ONLY, findings.EXPERIMENT_NOT_FOUND, findings.EXPERIMENT_DELETED)
def experiment(examination: Examination) -> str:
    """The experiment accepts a run."""
    name = examination.experiment_name
    try:
        examination.experiment = _existing(examination, name) if name else _new_experiment(examination)
        examination.run = until_visible("the new experiment", lambda: _new_run(examination))
    except MLflowAPIError as error:
        if error.status_code == 403:
            raise MLflowProviderError(findings.READ_ONLY) from None
        raise
    return f"created a run in {name}" if name else "created an experiment and a run"


def _existing(examination: Examination, name: str) -> dict[str, Any]:
    by_name = {"experiment_name": name}
    try:
        existing = examination.hook.call("GET", "experiments/get-by-name", by_name)["experiment"]
    except MLflowNotFoundError:
        raise MLflowProviderError(findings.EXPERIMENT_NOT_FOUND.format(name=name)) from None
    if existing["lifecycle_stage"] == "deleted":
        raise MLflowProviderError(findings.EXPERIMENT_DELETED.format(name=name, id=existing["experiment_id"]))
    return existing


def _new_experiment(examination: Examination) -> dict[str, Any]:
    hook = examination.hook
    # A new one each time: an experiment keeps the artifact location it was created with.
    folder = "/Shared/" if examination.connection.is_databricks else ""
    name = f"{folder}mlflow_doctor {uuid.uuid4().hex}"
    created = {"experiment_id": hook.call("POST", "experiments/create", {"name": name})["experiment_id"]}
    examination.cleanup.callback(hook.call, "POST", "experiments/delete", created)
    return {**created, "name": name}


def _new_run(examination: Examination) -> Run:
    hook = examination.hook
    experiment_id = examination.experiment["experiment_id"]
    run = runs.create(hook, experiment_id, "doctor", {"mlflow_doctor": uuid.uuid4().hex}, {})
    examination.cleanup.callback(runs.delete, hook, run.run_id)
    examination.cleanup.callback(runs.set_status, hook, run.run_id, "FINISHED")
    return run


@check("replica", experiment, findings.REPLICA_LAGS)
def replica(examination: Examination) -> str:
    """A search finds a new run."""
    run, seconds = examination.run, 0
    by_id = f"attributes.run_id = '{run.run_id}'"
    while seconds < MAX_LAG_SECONDS and not examination.hook.search_runs([run.experiment_id], by_id):
        time.sleep(1)
        seconds += 1
    if seconds > TOLERATED_LAG:
        raise MLflowProviderError(findings.REPLICA_LAGS.format(seconds=seconds, tolerated=TOLERATED_LAG))
    return f"a search finds a new run after {seconds} s"


@check("logged model", experiment, findings.NO_LOGGED_MODELS)
def logged_model(examination: Examination) -> str:
    """A model can be logged."""
    hook, params = examination.hook, {"experiment_id": examination.run.experiment_id, "name": "doctor"}
    try:
        model_id = hook.call("POST", "logged-models", params)["model"]["info"]["model_id"]
    except MLflowAPIError as error:
        if error.status_code != 404:
            raise
        raise MLflowProviderError(findings.NO_LOGGED_MODELS) from None
    examination.cleanup.callback(hook.call, "DELETE", f"logged-models/{model_id}")
    return "created a logged model"


@check(
    "artifact store",
    experiment,
    findings.ARTIFACTS_NOT_PROXIED,
    findings.SERVER_STORE_FAILED,
    findings.INVALID_FIELD,
    findings.STORE_PACKAGE_MISSING,
    findings.S3_KEYS_MISSING,
    findings.STORE_UNREACHABLE,
    findings.S3_KEYS_REJECTED,
    findings.ROLE_NOT_ASSUMED,
    findings.PROFILE_MISSING,
    findings.GOOGLE_KEY_REJECTED,
    findings.BUCKET_NOT_FOUND,
    findings.WRONG_REGION,
    findings.CLOCK_SKEW,
    findings.BUCKET_FORBIDDEN,
)
def artifact_store(examination: Examination) -> str:
    """The artifact store responds to the server or to this worker, depending on which one writes to it."""
    location = urlsplit(examination.artifact_uri)
    if location.scheme == "mlflow-artifacts":
        _check_proxied_artifacts(examination)
        server_info = examination.hook.run("api/3.0/mlflow/server-info").text
        if '"artifacts_presigned_only":true' in server_info:  # MLflow 3.18 and later
            return "the server proxies nothing; workers write to its store, and need no keys"
        return "the server proxies artifacts; workers need no keys"
    _check_package(location.scheme, examination.artifact_uri)
    if location.scheme == "gs":
        _check_google(examination)
    if location.scheme == "s3":
        _check_s3(examination, location.netloc)
        return f"this worker writes to s3://{location.netloc} directly"
    return f"this worker writes to {examination.artifact_uri} directly"


def _check_proxied_artifacts(examination: Examination) -> None:
    path = urlsplit(examination.artifact_uri).path.strip("/")
    response = examination.hook.run("api/2.0/mlflow-artifacts/artifacts", request_params={"path": path})
    if response.status_code == 503:
        raise MLflowProviderError(findings.ARTIFACTS_NOT_PROXIED)
    if not response.ok:
        raise MLflowProviderError(findings.SERVER_STORE_FAILED)


def _check_package(scheme: str, location: str) -> None:
    module, package = STORE_PACKAGES.get(scheme, ("mlflow", "mlflow"))
    try:
        importlib.import_module(module)
    except ImportError:
        missing = findings.STORE_PACKAGE_MISSING.format(location=location, package=package)
        raise MLflowProviderError(missing) from None


def _check_google(examination: Examination) -> None:
    """Load the credentials, without which MLflow would write anonymously."""
    from google import auth

    with examination.tracking():
        try:
            auth.default()
        except auth.exceptions.DefaultCredentialsError as error:
            location = examination.artifact_uri
            rejected = findings.GOOGLE_KEY_REJECTED.format(location=location, error=_short(error))
            raise MLflowProviderError(rejected) from None


def _check_s3(examination: Examination, bucket: str) -> None:
    import boto3
    from botocore import config, exceptions

    with examination.tracking():
        endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL")
        client_config = config.Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1})
        verify = False if os.environ.get("MLFLOW_S3_IGNORE_TLS") == "true" else None
        try:
            client = boto3.client("s3", endpoint_url=endpoint, config=client_config, verify=verify)
            client.list_objects_v2(Bucket=bucket, MaxKeys=1)
        except exceptions.ClientError as error:
            forbidden = findings.BUCKET_FORBIDDEN.format(code=error.response["Error"]["Code"], bucket=bucket)
            raise MLflowProviderError(cause_of(error, examination.artifact_uri) or forbidden) from None
        except (exceptions.BotoCoreError, ValueError) as error:  # ValueError: the endpoint is not a URL
            unreachable = findings.STORE_UNREACHABLE.format(endpoint=endpoint or "AWS S3's own address")
            raise MLflowProviderError(cause_of(error, examination.artifact_uri) or unreachable) from None


@check(
    "artifact",
    artifact_store,
    findings.SERVER_STORE_FAILED,
    findings.CLIENT_TOO_OLD,
    findings.STORE_NOT_REACHED,
    findings.PASSWORD_NOT_ASCII,
    findings.ARTIFACT_NOT_WRITTEN,
    findings.ARTIFACT_ON_WORKER,
    findings.ARTIFACT_NOT_LISTED,
    findings.ARTIFACT_CHANGED,
)
def artifact(examination: Examination) -> str:
    """An artifact is written, listed by the server, and read back byte for byte."""
    run_id = examination.run.run_id
    with examination.tracking() as client, tempfile.TemporaryDirectory(prefix="mlflow-doctor-") as folder:
        file = Path(folder, FILE)
        file.write_bytes(examination.content)
        try:
            client.log_artifact(run_id, str(file))
        except Exception as error:  # noqa: BLE001  # each store has its own errors
            raise MLflowProviderError(_why_not_written(examination, error)) from None
        if not examination.connection.is_databricks:  # where MLflow cannot delete artifacts
            examination.cleanup.callback(_delete_artifacts, examination)
        _check_listing(examination)
        file.unlink()
        read = Path(client.download_artifacts(run_id, FILE, folder)).read_bytes()
    if read != examination.content:
        raise MLflowProviderError(findings.ARTIFACT_CHANGED)
    return "written, listed by the server, read back byte for byte"


def _is_folder(examination: Examination) -> bool:
    return urlsplit(examination.artifact_uri).scheme in ("", "file")


def _why_not_written(examination: Examination, error: Exception) -> Finding:
    location = examination.artifact_uri
    if location.startswith("mlflow-artifacts:"):
        has_ascii_password = (examination.connection.login.secret or "").isascii()
        failed = cause_of(error, location) or findings.SERVER_STORE_FAILED
        return failed if has_ascii_password else findings.PASSWORD_NOT_ASCII
    if _is_folder(examination):
        return findings.ARTIFACT_ON_WORKER.format(location=location)
    return findings.ARTIFACT_NOT_WRITTEN.format(location=location, error=_short(error))


def _short(error: object) -> str:
    """Return the first line of a library's message, which may be a page."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _check_listing(examination: Examination) -> None:
    run_id = {"run_id": examination.run.run_id}
    try:
        files = examination.hook.call("GET", "artifacts/list", run_id).get("files", [])
        problem = "it lists " + (", ".join(file["path"] for file in files) or "no files")
    except MLflowAPIError as error:
        files, problem = [], _short(error)
    if FILE not in [file["path"] for file in files]:
        finding = findings.ARTIFACT_ON_WORKER if _is_folder(examination) else findings.ARTIFACT_NOT_LISTED
        raise MLflowProviderError(finding.format(location=examination.artifact_uri, error=problem))


def _delete_artifacts(examination: Examination) -> None:
    # Only the run's folder: MLflow deletes by prefix, and 1 is a prefix of experiment 12.
    with examination.tracking():
        repository: Any = None
        with mlflow_private.optional(mlflow_private.ARTIFACT_REPOSITORY):
            folder = examination.artifact_uri.removesuffix("/artifacts")
            repository = mlflow_private.ARTIFACT_REPOSITORY.get()(folder)
        if repository:
            repository.delete_artifacts()


@check("next task", artifact, findings.ARTIFACT_NOT_SHARED)
def next_task(examination: Examination) -> str:
    """Another process reads the artifact."""
    command = [sys.executable, "-c", READ_ARTIFACT, examination.run.run_id, FILE]
    with examination.tracking(), tempfile.TemporaryDirectory(prefix="mlflow-doctor-") as folder:
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if hashlib.sha256(examination.content).hexdigest() not in process.stdout:
        problem = _short((process.stderr.strip().splitlines() or ["it read different content"])[-1])
        raise MLflowProviderError(
            findings.ARTIFACT_NOT_SHARED.format(location=examination.artifact_uri, error=problem)
        )
    return "another process reads the same artifact"


@check("cleanup", login, findings.NOT_DELETED)
def cleanup(examination: Examination) -> str:
    """Everything that the doctor created is deleted, also if a check failed in between."""
    try:
        examination.cleanup.close()
    except Exception as error:  # noqa: BLE001  # each store has its own errors
        what = f"experiment {examination.experiment['name']!r}"
        if hasattr(examination, "run"):
            what = f"run {examination.run.run_id} of {what}"
        raise MLflowProviderError(findings.NOT_DELETED.format(error=_short(error), what=what)) from None
    return "deleted everything that was created"


@check("this disk", api, findings.RUNS_ON_WORKER)
def this_disk(examination: Examination) -> str:
    """No run that belongs to MLflow is on this disk."""
    for place, run_id in _runs_on_this_disk():
        if not _exists(examination.hook, run_id):
            raise MLflowProviderError(findings.RUNS_ON_WORKER.format(place=place, run_id=run_id))
    return "no runs that belong to MLflow"


def _exists(hook: MLflowClientHook, run_id: str) -> bool:
    try:
        return bool(hook.get_run(run_id))
    except MLflowNotFoundError:
        return False


def _runs_on_this_disk() -> Iterator[tuple[Path, str]]:
    """Yield the places where ``mlflow`` writes without a tracking URI, each with the ID of a run.

    MLflow 3.7 and later write to a database in the working directory, earlier versions to a folder.
    """
    for folder in {Path.cwd(), Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()}:
        database = folder / "mlflow.db"
        newest = "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT 1"
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as store,
        ):
            yield from ((database, run_id) for (run_id,) in store.execute(newest))
        for file in list(folder.glob("mlruns/*/*/meta.yaml"))[:1]:
            yield folder / "mlruns", file.parent.name


@check("open runs", login, findings.OPEN_RUNS)
def open_runs(examination: Examination) -> str:
    """No run is RUNNING in MLflow after its task has ended."""
    if examination.task_instance is None:
        raise Skipped("only a task can query Airflow: run the DAG mlflow_doctor")
    hook = examination.hook
    running = f"{runs.instance_filter()} AND attributes.status = 'RUNNING'"
    open_run_ids = []
    for run in runs.search(hook, runs.all_experiments(hook), running):
        dag_id, run_id = run.tags[runs.DAG_ID], run.tags[runs.RUN_ID]
        states = examination.task_instance.get_task_states(dag_id=dag_id, run_ids=[run_id])
        # The status again, because the run may have ended together with its task.
        if has_ended(run, states.get(run_id, {})) and runs.status(hook, run) == "RUNNING":
            open_run_ids.append(run.run_id)
    if open_run_ids and not examination.close_open_runs:
        raise MLflowProviderError(findings.OPEN_RUNS.format(runs=", ".join(open_run_ids)))
    for run_id in open_run_ids:
        runs.end(hook, run_id, "KILLED", "its task had ended when mlflow_doctor found it")
    return f"closed {len(open_run_ids)}" if open_run_ids else "none is RUNNING after its task has ended"
