"""Airflow's pages about MLflow, with a real server and real logins: what they show to which users."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread

import pytest
from fastapi.testclient import TestClient

from mlflow_provider.hooks.client import as_tag_list
from mlflow_provider.plugins import pages
from mlflow_provider.server import limits
from mlflow_provider.server.limits import Limits
from mlflow_provider.tracking import runs
from mlflow_proxy import Fault

# The tests' own secret is shorter than it should be.
pytestmark = pytest.mark.filterwarnings("ignore:The HMAC key")

each_page = pytest.mark.parametrize("path", ["/", "/dags/{name}/runs/manual"], ids=["newest", "dag_run"])
each_path = pytest.mark.parametrize("path", ["/", "/open", "/dags/{name}/runs/manual"])


@pytest.fixture
def log_run(hook):
    """A function that logs a run as a task of a DAG does, and returns its ID."""

    def log_run(dag_id, **tags):
        dag_run = runs.dag_run_tags(dag_id, "manual")
        tags = {"airflow.task_id": "train", **tags}
        experiment_id = hook.get_or_create_experiment("Pages")
        run = runs.create(hook, experiment_id, f"run of {dag_id}", dag_run, tags)
        return run.run_id

    return log_run


@pytest.fixture
def browser(login, name, mlflow_default):
    """A browser of a user who may only read the DAG ``name``."""
    return TestClient(pages.app, headers=login(name), follow_redirects=False)


@each_page
def test_a_metric_that_is_no_number_hides_no_page(browser, hook, log_run, name, path):
    run_id = log_run(name)
    for key in ("NaN", "Infinity", "-Infinity"):
        metric = {"run_id": run_id, "key": key, "value": key, "timestamp": 0}
        hook.call("POST", "runs/log-metric", metric)

    answer = browser.get(path.format(name=name))

    assert answer.status_code == 200
    assert "NaN nan" in answer.text


def test_of_the_newest_runs_users_see_those_of_dags_that_they_may_read(browser, login, log_run, name):
    log_run(name)
    log_run(f"{name}-secret")
    login(f"{name}-secret")

    page = browser.get("/").text

    assert f"run of {name}<" in page
    assert f"{name}-secret" not in page


def test_users_see_the_runs_of_quiet_dags_below_busy_ones_and_what_was_not_searched(
    browser, login, log_run, name, monkeypatch, mlflow_proxy
):
    monkeypatch.setenv("AIRFLOW__MLFLOW__INSTANCE", name)
    monkeypatch.setattr(pages, "NEWEST_RUNS", 3)
    for dag_id in (name, *[f"{name}-busy"] * 3):
        log_run(dag_id)

    page = browser.get("/").text
    mlflow_proxy.faults.append(Fault("runs/search", above=1))
    page_of_slow_mlflow = browser.get("/").text

    assert f"run of {name}<" in page
    assert f"{name}-busy" not in page
    assert "Only the newest 3 runs were searched, and up to 3 of each DAG." in page
    assert f"did not respond in time for the DAGs {name}." in page_of_slow_mlflow


@each_page
def test_foreign_runs_take_the_page_from_nobody(browser, hook, log_run, name, path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__MLFLOW__INSTANCE", name)
    log_run(name)
    experiment_id = hook.get_or_create_experiment("Pages")
    tags = runs.dag_run_tags(name, "manual")
    broken = [({}, 10**15), *([({"airflow.dag_id": name}, 0)] * 2), ({}, -(10**15))]
    for missing, start_time in broken:
        left = as_tag_list({key: value for key, value in tags.items() if key not in missing})
        params = {"experiment_id": experiment_id, "start_time": start_time, "tags": left}
        hook.call("POST", "runs/create", params)

    answer = browser.get(path.format(name=name))

    assert (answer.status_code, answer.text.count("This run cannot be shown")) == (200, 4)
    assert f"run of {name}<" in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_dag_run_shows_its_runs_to_those_who_may_read_the_dag(browser, log_run, name):
    log_run(name)
    log_run(f"{name}-secret")

    assert f"run of {name}<" in browser.get(f"/dags/{name}/runs/manual").text
    assert browser.get(f"/dags/{name}-secret/runs/manual").status_code == 403


@each_path
def test_nobody_sees_a_page_without_a_login(login, path):
    assert TestClient(pages.app).get(path, follow_redirects=False).status_code == 401


@each_page
def test_runs_of_another_airflow_are_not_shown(browser, log_run, name, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW__MLFLOW__INSTANCE", "production")
        log_run(name)

    assert f"run of {name}<" not in browser.get(path.format(name=name)).text


def test_a_run_leads_to_its_experiment_and_its_task(browser, log_run, name):
    log_run(name, **{"airflow.map_index": "2", runs.TRY_NUMBER: "1"})

    page = browser.get("/").text

    assert ">Pages</a>" in page
    link = f"/dags/{name}/runs/manual/tasks/train/mapped/2?try_number=1"
    assert f'<a href="{link}">train[2]</a>' in page


def test_a_dag_run_without_runs_says_how_to_log_one(browser, name):
    assert "@task.mlflow" in browser.get(f"/dags/{name}/runs/manual").text


def test_open_leads_to_the_address_that_a_browser_uses(browser, airflow_connection):
    airflow_connection(host="http://mlflow:5000", extra={"ui_url": "http://localhost:5001"})

    answer = browser.get("/open")

    assert (answer.status_code, answer.headers["location"]) == (307, "http://localhost:5001/#/")


@pytest.mark.parametrize(
    ("kind", "mlflow_page"), [("experiments", r"experiments/\d+"), ("models", "models/Page%20models")]
)
def test_open_leads_to_an_experiment_and_to_a_registered_model_by_name(browser, hook, kind, mlflow_page):
    hook.get_or_create_experiment("Page models")

    answer = browser.get(f"/open/{kind}/Page models")

    page = rf"{hook.base_url}/#/{mlflow_page}\?workflowType=machine_learning"
    assert re.fullmatch(page, answer.headers["location"])


def test_an_experiment_that_does_not_exist_yet_is_named(browser):
    answer = browser.get("/open/experiments/Not yet")

    assert answer.status_code == 404
    assert "no experiment &#39;Not yet&#39; yet" in answer.text


@each_page
def test_runs_on_the_servers_of_other_connections_are_also_shown(
    browser, airflow_connection, mlflow_server, log_run, name, path
):
    log_run(name)
    airflow_connection("mlflow_remote", host=mlflow_server.url)
    airflow_connection(host="")

    one = browser.get(path.format(name=name), params={"conn_id": "mlflow_remote"})
    both = browser.get(path.format(name=name), params={"conn_id": ["mlflow_default", "mlflow_remote"]})

    assert "field Host" in browser.get(path.format(name=name)).text
    for answer in (one, both):
        assert f"run of {name}<" in answer.text
        assert "field Host" not in answer.text


@each_path
def test_a_connection_that_cannot_be_used_is_shown_with_what_to_do(browser, airflow_connection, path, name):
    airflow_connection(host="http://mlflow:5000", port=5001)

    answer = browser.get(path.format(name=name))

    assert answer.status_code == 502
    assert "field Port: 5001, but Host has 5000" in answer.text.replace("&#39;", "'")


@pytest.fixture
def trickling_server():
    """The port of a server that sends a byte now and then, so that no single read takes long."""

    class Trickle(StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            with suppress(ConnectionError):
                while not done.wait(0.05):
                    self.wfile.write(b" ")

    done = Event()
    with ThreadingTCPServer(("127.0.0.1", 0), Trickle) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_address[1]
        done.set()
        server.shutdown()


@pytest.fixture
def silent_server():
    """The port of a server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("server", ["silent_server", "trickling_server"])
@each_page
def test_a_server_that_does_not_get_done_is_shown_as_such(
    browser, airflow_connection, monkeypatch, request, name, path, server
):
    monkeypatch.setattr(limits, "OUTSIDE_TASK", Limits(timeout=0.5))
    airflow_connection(host="127.0.0.1", port=request.getfixturevalue(server))

    answer = browser.get(path.format(name=name))

    assert answer.status_code == 502
    assert "did not respond" in answer.text
    assert "try again later" in answer.text
