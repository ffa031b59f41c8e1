"""A token that is replaced while a training runs: the next request uses the new one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
from airflow.sdk import BaseHook
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_provider.exceptions import MLflowAPIError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_servers import Answer

OLD, NEW = "old-token-7f3a", "new-token-91bc"
MODEL = b"model" * 100_000

TRAINING = """\
import logging, os, sys
sys.path[:0] = {path!r}
logging.basicConfig(level="INFO")
import mlflow
from mlflow_provider import task_run
from tries import Try

with task_run(context=Try("training").context, experiment={experiment!r}):
    mlflow.log_metric("rmse", 0.5)
    print("waiting", flush=True)
    input()
    mlflow.log_artifact("model.bin")
    mlflow.log_metric("rmse", 0.4)
    assert os.environ["MLFLOW_TRACKING_TOKEN"].startswith("new"), "new child processes would get the old one"
assert "MLFLOW_TRACKING_TOKEN" not in os.environ
"""


@pytest.fixture
def connect(mlflow_proxy, airflow_connection):
    """A function that creates the connection, by default with the old token."""

    def connect(**fields: str) -> str:
        return airflow_connection(**{"host": mlflow_proxy.url, "login": "token", "password": OLD} | fields)

    connect()
    mlflow_proxy.token = OLD
    return connect


@pytest.fixture
def rotate(connect, mlflow_proxy):
    """A function that replaces the token on the server and in the connection."""

    def replace() -> None:
        mlflow_proxy.token = NEW
        connect(password=NEW)

    return replace


@pytest.fixture
def hook(connect):
    return MLflowClientHook()


def test_a_training_continues_with_the_new_token_of_a_secrets_backend(
    hook, rotate, mlflow_proxy, name, tmp_path
):
    connections, script = tmp_path / "connections.json", tmp_path / "training.py"
    script.write_text(TRAINING.format(path=sys.path, experiment=name))
    (tmp_path / "model.bin").write_bytes(MODEL)
    fields = {"conn_type": "mlflow", "host": mlflow_proxy.url, "login": "token"}
    connections.write_text(json.dumps({"mlflow_default": {**fields, "password": OLD}}))
    backend = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
    options = json.dumps({"connections_file_path": str(connections)})
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
    for section in ("SECRETS__", "WORKERS__SECRETS_"):
        environment |= {f"AIRFLOW__{section}BACKEND": backend, f"AIRFLOW__{section}BACKEND_KWARGS": options}

    with (tmp_path / "log").open("w") as log:
        training = subprocess.Popen(
            [sys.executable, script],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert b"waiting\n" in iter(training.stdout.readline, b""), (tmp_path / "log").read_text()
        connections.write_text(json.dumps({"mlflow_default": {**fields, "password": NEW}}))
        rotate()
        printed, _ = training.communicate(b"\n", timeout=300)

    output = (tmp_path / "log").read_text() + printed.decode()
    assert training.returncode == 0, output
    assert "Login of connection 'mlflow_default' has changed; using the new one." in output
    assert OLD not in output
    assert NEW not in output
    run = hook.client.search_runs([hook.get_or_create_experiment(name)])[0]
    assert (run.info.status, run.data.metrics["rmse"]) == ("FINISHED", 0.4)
    assert Path(hook.client.download_artifacts(run.info.run_id, "model.bin")).read_bytes() == MODEL


def test_a_file_that_the_server_rejects_is_sent_again_from_its_beginning(hook, rotate, name, tmp_path):
    (tmp_path / "model.bin").write_bytes(MODEL)
    run = hook.client.create_run(hook.get_or_create_experiment(name))
    with hook.tracking():
        store = get_artifact_repository(run.info.artifact_uri)
        rotate()
        store.log_artifact(str(tmp_path / "model.bin"))

        assert [file.file_size for file in store.list_artifacts()] == [len(MODEL)]


def test_a_hook_uses_the_new_token_with_one_more_request(hook, rotate, mlflow_proxy):
    hook.search_experiments()
    rotate()
    mlflow_proxy.requests.clear()

    hook.search_experiments()
    hook.search_experiments()

    assert mlflow_proxy.requests == ["POST experiments/search"] * 3


def test_threads_that_are_rejected_at_once_read_the_connection_once(connect, rotate, monkeypatch):
    reads = []
    look_up = BaseHook.get_connection
    counted = staticmethod(lambda conn_id: reads.append(conn_id) or look_up(conn_id))
    monkeypatch.setattr(BaseHook, "get_connection", counted)
    hook = MLflowClientHook()
    hook.search_experiments()
    rotate()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: hook.search_experiments(max_results=1), range(4)))

    assert reads == ["mlflow_default"] * 2


def _search() -> str:
    try:
        return str(len(mlflow.search_experiments()))
    except MlflowException as error:
        return str(error)


def test_a_forked_process_does_not_read_the_connection(hook, rotate):
    """It shares the socket to Airflow with its parent."""
    # If a DAG ran in this process before, Airflow has left a handler that ignores SIGTERM in forks.
    default_sigterm = {"initializer": signal.signal, "initargs": (signal.SIGTERM, signal.SIG_DFL)}
    with hook.tracking():
        rotate()
        with multiprocessing.get_context("fork").Pool(1, **default_sigterm) as processes:
            assert "401" in processes.apply(_search)
        assert _search().isdecimal()


def test_a_login_that_is_wrong_and_unchanged_is_sent_once(hook, mlflow_proxy):
    mlflow_proxy.token = NEW

    with pytest.raises(MLflowAPIError, match="login rejected; correct Login and Password"):
        hook.search_experiments()

    assert mlflow_proxy.requests == ["POST experiments/search"]


def test_a_new_token_of_another_server_is_not_sent_to_this_one(hook, connect, mlflow_proxy):
    hook.search_experiments()
    mlflow_proxy.token = NEW
    connect(host="http://another.example", password=NEW)

    with pytest.raises(MLflowAPIError, match="401"):
        hook.search_experiments()


def test_the_target_of_a_redirect_gets_neither_token(connect, false_server):
    elsewhere = false_server(Answer(401))
    location = f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/x"
    connect(host=false_server(Answer(302, "", {"Location": location})).url)
    hook = MLflowClientHook("GET")
    connect(host=hook.base_url, password=NEW)

    assert hook.run("x", allow_redirects=True).status_code == 401
    assert [headers.get("Authorization") for headers in elsewhere.requests] == [None]


def test_a_nested_block_does_not_send_the_login_of_the_outer_server(hook, false_server, airflow_connection):
    server = false_server(Answer(body='{"experiments": []}'))
    anonymous = MLflowClientHook(mlflow_conn_id=airflow_connection("other", host=server.url))
    with hook.tracking() as outer:
        with anonymous.tracking() as inner:
            inner.search_experiments()
        assert outer.search_experiments()

    assert [headers.get("Authorization") for headers in server.requests] == [None]


def test_the_workers_own_request_auth_is_for_connections_without_a_login(
    hook, airflow_connection, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "ours")
    anonymous = airflow_connection("anonymous", host=hook.base_url)
    with hook.tracking():
        assert os.environ["MLFLOW_TRACKING_AUTH"] == "airflow-connection"
        with MLflowClientHook(mlflow_conn_id=anonymous).tracking():
            assert os.environ["MLFLOW_TRACKING_AUTH"] == "ours"
    assert os.environ["MLFLOW_TRACKING_AUTH"] == "ours"
