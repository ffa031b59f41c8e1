"""The checks, in the order in which an artifact finds its way."""

from __future__ import annotations

import hashlib
import importlib.metadata
import ipaddress
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
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
from mlflow_provider.server import findings as causes
from mlflow_provider.server import limits
from mlflow_provider.server.artifact_errors import cause_of
from mlflow_provider.tracking import runs
from mlflow_provider.tracking.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Connection

FILE = "doctor.bin"
# In another process, as the next task is.
READ_ARTIFACT = """
import hashlib, mlflow, pathlib, sys
path = mlflow.artifacts.download_artifacts(run_id=sys.argv[1], artifact_path=sys.argv[2])
print(hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest())
"""
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")


def examine(
    conn_id: str = MLflowClientHook.default_conn_name,
    *,
    experiment: str | None = None,
    task_instance: Any = None,
    close_open_runs: bool = False,
    get_connection: Callable[[str], Connection] = BaseHook.get_connection,
) -> Iterator[Result]:
    """Follow the way of an artifact to MLflow and back, and yield what each check finds.

    What it makes in MLflow is deleted again. It takes seconds where all is well, and some more where a
    server does not answer.

    :param conn_id: connection of type ``mlflow``.
    :param experiment: name of the experiment to examine; by default a new one, as a new DAG would create it.
    :param task_instance: of the task that calls this, ``context["ti"]``. With it, runs are found that are
        RUNNING in MLflow though their tasks have ended.
    :param close_open_runs: whether to end those as KILLED.
    :param get_connection: looks a connection up.
    """
    examination = Examination(conn_id, get_connection, experiment, task_instance, close_open_runs)
    succeeded: set[str] = set()
    with examination.cleanup:
        for each in CHECKS:
            if each.after and each.after.title not in succeeded:
                yield Result(each.title, "skipped", "not tried")
                continue
            result = each.result(examination)
            if result.status == "ok":
                succeeded.add(result.check)
            yield result


@check("connection", None, causes.FIELD)
def connection(examination: Examination) -> str:
    """It exists, and is complete."""
    found = examination.connection
    login = found.username or ("a token" if found.token else "")
    return f"{found.url}, with the login {login}" if login else f"{found.url}, without a login"


@check("host name", connection, causes.UNKNOWN_HOST)
def host_name(examination: Examination) -> str:
    """It resolves."""
    host, number = examination.address
    try:
        found = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise MLflowProviderError(f"{host}: {causes.UNKNOWN_HOST}") from None
    return f"{host} is {found[0][4][0]}"


@check("port", host_name, causes.REFUSED, causes.LOOPBACK, causes.TIMED_OUT, causes.NO_WAY, causes.DEAD_PROXY)
def port(examination: Examination) -> str:
    """Something listens on it."""
    host, number = examination.address
    try:
        socket.create_connection((host, number), limits.INTERACTIVE_TIMEOUT).close()
    except OSError as error:
        if examination.proxy:
            cause = causes.DEAD_PROXY.format(proxy=examination.proxy)
        elif isinstance(error, TimeoutError):
            cause = causes.TIMED_OUT
        elif not isinstance(error, ConnectionRefusedError):
            cause = causes.NO_WAY.format(error=error.strerror)
        elif ipaddress.ip_address(socket.gethostbyname(host)).is_loopback:
            cause = causes.LOOPBACK
        else:
            cause = causes.REFUSED
        raise MLflowProviderError(f"{host}, port {number}: {cause}") from None
    return f"{number} answers, of a proxy on the way" if examination.proxy else f"{number} answers"


@check(
    "server",
    port,
    causes.TIMED_OUT,
    causes.NOT_MLFLOW,
    causes.SPEAKS_HTTP,
    causes.UNTRUSTED,
    causes.HANGS_UP,
    causes.REDIRECTED,
    causes.REDIRECTED_ELSEWHERE,
    causes.OTHER_MAJOR_VERSION,
)
def server(examination: Examination) -> str:
    """It is MLflow, of a version that fits the client here."""
    client = importlib.metadata.version("mlflow-skinny")
    if examination.connection.is_databricks:
        return f"Databricks; mlflow-skinny here is {client}"
    response = examination.hook.run("version")
    if response.status_code in (401, 403):
        return "says nothing before the login"
    version = response.text.strip()
    if not response.ok or not re.fullmatch(r"\d+\.\d+\S*", version):
        raise MLflowProviderError(f"{response.url}: {causes.NOT_MLFLOW.format(request='GET version')}")
    if version.split(".")[0] != client.split(".")[0]:
        raise MLflowProviderError(causes.OTHER_MAJOR_VERSION.format(server=version, client=client))
    return f"MLflow {version}; mlflow-skinny here is {client}"


def _call_api(examination: Examination) -> None:
    examination.hook.call("POST", "experiments/search", {"max_results": 1})


@check("API", server, causes.UNKNOWN_TO_ITSELF)
def api(examination: Examination) -> str:
    """It answers to this host name, unlike ``/health``, which answers to any."""
    try:
        _call_api(examination)
    except MLflowAPIError as error:
        if error.status_code != 401:  # which is the next check's
            raise
    return f"answers to the name {urlsplit(examination.connection.url).netloc}"


@check("login", api, causes.NO_LOGIN, causes.WRONG_LOGIN)
def login(examination: Examination) -> str:
    """It is accepted."""
    _call_api(examination)
    return "is accepted" if examination.connection.has_login else "is not needed"


@check("experiment", login, causes.READ_ONLY, causes.NO_EXPERIMENT, causes.DELETED_EXPERIMENT)
def experiment(examination: Examination) -> str:
    """A run can be made in it."""
    name = examination.experiment_name
    try:
        examination.experiment = _existing(examination, name) if name else _new_experiment(examination)
        examination.run = _new_run(examination)
    except MLflowAPIError as error:
        if error.status_code == 403:
            raise MLflowProviderError(causes.READ_ONLY) from None
        raise
    return f"a run was made in {name}" if name else "an experiment and a run were made"


def _existing(examination: Examination, name: str) -> dict[str, Any]:
    try:
        found = examination.hook.call("GET", "experiments/get-by-name", {"experiment_name": name})[
            "experiment"
        ]
    except MLflowNotFoundError:
        raise MLflowProviderError(causes.NO_EXPERIMENT.format(name=name)) from None
    if found["lifecycle_stage"] == "deleted":
        raise MLflowProviderError(causes.DELETED_EXPERIMENT.format(name=name, id=found["experiment_id"]))
    return found


def _new_experiment(examination: Examination) -> dict[str, Any]:
    hook = examination.hook
    # A new one each time: an old one keeps its artifacts where the server wanted them then.
    folder = "/Shared/" if examination.connection.is_databricks else ""
    name = f"{folder}mlflow_doctor {uuid.uuid4().hex}"
    id_ = {"experiment_id": hook.call("POST", "experiments/create", {"name": name})["experiment_id"]}
    examination.cleanup.callback(hook.call, "POST", "experiments/delete", id_)
    return hook.call("GET", "experiments/get", id_)["experiment"]


def _new_run(examination: Examination) -> Run:
    hook = examination.hook
    experiment_id = examination.experiment["experiment_id"]
    run, _ = runs.create(hook, experiment_id, "doctor", {"mlflow_doctor": uuid.uuid4().hex}, {})
    examination.cleanup.callback(runs.delete, hook, run.run_id)
    examination.cleanup.callback(runs.set_status, hook, run.run_id, "FINISHED")
    return run


@check(
    "artifact store",
    experiment,
    causes.NOT_SERVED,
    causes.SERVER_STORE_FAILS,
    causes.NO_BOTO3,
    causes.NO_KEYS,
    causes.STORE_UNREACHABLE,
    causes.WRONG_KEYS,
    causes.NO_BUCKET,
    causes.WRONG_REGION,
    causes.CLOCK_SKEW,
    causes.STORE_FORBIDS,
)
def artifact_store(examination: Examination) -> str:
    """It answers whoever writes to it: the server, or this worker."""
    location = urlsplit(examination.artifact_uri)
    if location.scheme == "mlflow-artifacts":
        _ask_server_for_artifacts(examination)
        return "the server passes artifacts on; workers need no key"
    if location.scheme == "s3":
        _ask_s3(examination, location.netloc)
        return f"this worker writes to s3://{location.netloc} itself"
    return f"this worker writes to {examination.artifact_uri} itself"


def _ask_server_for_artifacts(examination: Examination) -> None:
    path = urlsplit(examination.artifact_uri).path.strip("/")
    response = examination.hook.run("api/2.0/mlflow-artifacts/artifacts", request_params={"path": path})
    if response.status_code == 503:
        raise MLflowProviderError(causes.NOT_SERVED)
    if not response.ok:
        raise MLflowProviderError(causes.SERVER_STORE_FAILS)


def _ask_s3(examination: Examination, bucket: str) -> None:
    with examination.tracking():
        try:
            import boto3
            from botocore import config, exceptions
        except ImportError:
            raise MLflowProviderError(causes.NO_BOTO3.format(location=examination.artifact_uri)) from None
        endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL")
        client_config = config.Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1})
        verify = False if os.environ.get("MLFLOW_S3_IGNORE_TLS") == "true" else None
        try:
            client = boto3.client("s3", endpoint_url=endpoint, config=client_config, verify=verify)
            client.list_objects_v2(Bucket=bucket, MaxKeys=1)
        except exceptions.ClientError as error:
            forbids = causes.STORE_FORBIDS.format(code=error.response["Error"]["Code"], bucket=bucket)
            raise MLflowProviderError(cause_of(error, examination.artifact_uri) or forbids) from None
        except (
            exceptions.BotoCoreError,
            ValueError,
        ) as error:  # the latter of an endpoint that is no address
            silent = causes.STORE_UNREACHABLE.format(endpoint=endpoint or "AWS S3's own address")
            raise MLflowProviderError(cause_of(error, examination.artifact_uri) or silent) from None


@check(
    "artifact",
    artifact_store,
    causes.SERVER_STORE_FAILS,
    causes.NOT_ASCII,
    causes.NOT_WRITTEN,
    causes.OWN_DISK,
    causes.NOT_LISTED,
    causes.CHANGED,
)
def artifact(examination: Examination) -> str:
    """It is written, listed by the server, and read back byte for byte."""
    run_id = examination.run.run_id
    with examination.tracking() as client, tempfile.TemporaryDirectory(prefix="mlflow-doctor-") as folder:
        file = Path(folder, FILE)
        file.write_bytes(examination.content)
        try:
            client.log_artifact(run_id, str(file))
        except Exception as error:  # noqa: BLE001  # each store has its own
            raise MLflowProviderError(_why_not_written(examination, error)) from None
        examination.cleanup.callback(_delete_artifacts, examination)
        _see_that_the_server_lists_it(examination)
        file.unlink()
        read = Path(client.download_artifacts(run_id, FILE, folder)).read_bytes()
    if read != examination.content:
        raise MLflowProviderError(causes.CHANGED)
    return "written, listed by the server, read back byte for byte"


def _is_folder(examination: Examination) -> bool:
    return urlsplit(examination.artifact_uri).scheme in ("", "file")


def _why_not_written(examination: Examination, error: Exception) -> str:
    location = examination.artifact_uri
    if location.startswith("mlflow-artifacts:"):
        has_ascii_password = (examination.connection.password or "").isascii()
        return causes.SERVER_STORE_FAILS if has_ascii_password else causes.NOT_ASCII
    if _is_folder(examination):
        return causes.OWN_DISK.format(location=location)
    return causes.NOT_WRITTEN.format(location=location, error=_short(error))


def _short(error: object) -> str:
    """Return the first line of what a library says, which may be a page."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _see_that_the_server_lists_it(examination: Examination) -> None:
    run_id = {"run_id": examination.run.run_id}
    try:
        files = examination.hook.call("GET", "artifacts/list", run_id).get("files", [])
        problem = "it lists " + (", ".join(file["path"] for file in files) or "none")
    except MLflowAPIError as error:
        files, problem = [], _short(error)
    if FILE not in [file["path"] for file in files]:
        cause = causes.OWN_DISK if _is_folder(examination) else causes.NOT_LISTED
        raise MLflowProviderError(cause.format(location=examination.artifact_uri, error=problem))


def _delete_artifacts(examination: Examination) -> None:
    # The run's folder and nothing above: MLflow deletes by prefix, and experiment 1 is one of experiment 12.
    with examination.tracking():
        repository: Any = None
        with mlflow_private.optional(mlflow_private.ARTIFACT_REPOSITORY):
            folder = examination.artifact_uri.removesuffix("/artifacts")
            repository = mlflow_private.ARTIFACT_REPOSITORY.get()(folder)
        if repository:
            repository.delete_artifacts()


@check("next task", artifact, causes.NOT_HANDED_ON)
def next_task(examination: Examination) -> str:
    """Another process reads what this one wrote."""
    command = [sys.executable, "-c", READ_ARTIFACT, examination.run.run_id, FILE]
    with examination.tracking(), tempfile.TemporaryDirectory(prefix="mlflow-doctor-") as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if hashlib.sha256(examination.content).hexdigest() not in done.stdout:
        said = done.stderr.strip().splitlines() or ["it read something else"]
        raise MLflowProviderError(
            causes.NOT_HANDED_ON.format(location=examination.artifact_uri, error=_short(said[-1]))
        )
    return "another process reads the same"


@check("cleaning up", experiment, causes.NOT_DELETED)
def cleaning_up(examination: Examination) -> str:
    """What the doctor made is deleted."""
    what = f"run {examination.run.run_id} of experiment {examination.experiment['name']!r}"
    try:
        examination.cleanup.close()
    except Exception as error:  # noqa: BLE001  # each store has its own
        raise MLflowProviderError(causes.NOT_DELETED.format(error=_short(error), what=what)) from None
    return "what was made is deleted again"


@check("this disk", api, causes.LOST_RUNS)
def this_disk(examination: Examination) -> str:
    """It holds no runs that MLflow should have."""
    for place, run_id in _runs_on_this_disk():
        if not _knows(examination.hook, run_id):
            raise MLflowProviderError(causes.LOST_RUNS.format(place=place, run_id=run_id))
    return "holds no runs that belong to MLflow"


def _knows(hook: MLflowClientHook, run_id: str) -> bool:
    try:
        return bool(hook.get_run(run_id))
    except MLflowNotFoundError:
        return False


def _runs_on_this_disk() -> Iterator[tuple[Path, str]]:
    """Yield where the ``mlflow`` package writes to without tracking URI, and the ID of a run there.

    MLflow 3.7 and later write to a database, earlier ones to a folder; both in the working directory.
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


@check("open runs", login, causes.OPEN_RUNS)
def open_runs(examination: Examination) -> str:
    """No run is RUNNING in MLflow whose task has ended."""
    if examination.task_instance is None:
        raise Skipped("only a task can ask Airflow: run the DAG mlflow_doctor")
    hook = examination.hook
    running = runs.search_everywhere(hook, f"{runs.instance_filter()} AND attributes.status = 'RUNNING'")
    left = [run.run_id for run in running if _is_left(examination, run)]
    if left and not examination.close_open_runs:
        raise MLflowProviderError(causes.OPEN_RUNS.format(runs=", ".join(left)))
    for run_id in left:
        runs.kill(hook, run_id, "its task had ended when mlflow_doctor found it")
    return f"{len(left)} closed" if left else "none is RUNNING whose task has ended"


def _is_left(examination: Examination, run: Run) -> bool:
    tags = run.tags
    of_dag_run = {"dag_id": tags["airflow.dag_id"], "run_ids": [tags["airflow.run_id"]]}
    states = examination.task_instance.get_task_states(**of_dag_run).get(tags["airflow.run_id"], {})
    task_id, map_index = tags.get("airflow.task_id"), tags.get("airflow.map_index", "-1")
    # A parent run belongs to all tasks, and Airflow tells nothing of a single iteration of a loop.
    if task_id and "airflow.loop_index" not in tags:
        key = task_id if map_index == "-1" else f"{task_id}_{map_index}"
        states = {key: states[key]} if key in states else {}
    if any(state not in ENDED for state in states.values()):
        return False
    # Asked once more, as it may have ended with its task in the meantime.
    return Run.from_api(examination.hook.get_run(run.run_id)).status == "RUNNING"
