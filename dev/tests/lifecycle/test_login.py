"""The stack with a login on MLflow: everything works as without one, and the password does not leak."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import requests

from dev.waiting import wait_until
from mlflow_provider.server import findings

if TYPE_CHECKING:
    from dev.tests.helpers.clones import Clone

PASSWORD_FILE = ".local/data/mlflow/login/password"


@pytest.fixture(scope="module")
def _demo(_clone: Clone, interrupted: object) -> Iterator[str]:
    """The output of ``make demo``; afterwards the login is off again."""
    _clone.make("down")
    has_ports = (_clone.folder / ".local" / "ports.json").exists()
    yield _clone.make("demo", MLFLOW_AUTH="1", **({} if has_ports else _clone.ports))
    _clone.make("down")
    _clone.make("up", MLFLOW_AUTH="0")


@pytest.fixture
def demo_output(_demo: str) -> str:
    return _demo


@pytest.fixture
def running(demo_output: str, clone: Clone) -> Clone:
    """The copy with its stack up, where the login is still on."""
    clone.make("up")
    return clone


@pytest.fixture
def password(running: Clone) -> str:
    return (running.folder / PASSWORD_FILE).read_text()


def search(clone: Clone, login: tuple[str, str] | None, path: str = "experiments/search", **body: object):
    url = f"http://127.0.0.1:{clone.mlflow_port}/api/2.0/mlflow/{path}"
    return requests.post(url, json={"max_results": 1, **body}, auth=login, timeout=60)


def doctor(clone: Clone) -> dict[str, str]:
    """The findings of ``make doctor``, by check."""
    lines = clone.make("doctor", expect=2)
    return dict(re.findall(r"^FAILED  (\S.*?) {2,}(.*(?:\n {24}.*|\n {21}-> .*)*)", lines, re.MULTILINE))


def test_the_demo_succeeds_and_shows_where_the_password_is(running, demo_output):
    login = f"(login: admin, password: in {PASSWORD_FILE})"
    assert f"MLflow   http://localhost:{running.mlflow_port}  {login}" in demo_output
    assert "mlflow_tutorial_dag has finished" in demo_output
    assert "A new champion:" in demo_output or "The champion stays:" in demo_output


def test_mlflow_rejects_requests_without_the_login(running, password):
    assert search(running, None).status_code == 401
    assert search(running, ("admin", "wrong")).status_code == 401
    assert search(running, ("admin", password)).status_code == 200


def test_only_the_file_and_mlflows_environment_contain_the_password(running, password, airflow, demo_output):
    assert stat.S_IMODE((running.folder / PASSWORD_FILE).stat().st_mode) == 0o600
    shown = "".join(" ".join(process.cmdline()) for process in running.processes())
    holders = {
        process.environ().get("LOCAL_STACK_COMPONENT")
        for process in running.processes()
        if password in "".join(process.environ().values())
    }
    shown += "".join(log.read_text() for log in (running.folder / ".local/logs").iterdir())
    tasks = (running.folder / ".local/data/airflow/logs").rglob("*.log")
    shown += "".join(log.read_text() for log in tasks)
    shown += demo_output + running.make("doctor") + json.dumps(airflow.call("GET", "/api/v2/connections"))
    assert "mlflow_tutorial_dag" in shown
    assert password not in shown
    assert holders == {"mlflow"}


def test_the_doctor_finds_all_well(running):
    output = running.make("doctor")
    assert "with the login admin" in output
    assert re.search(r"^ok +login +accepted$", output, re.MULTILINE)
    assert "All is well" in output


def test_airflows_page_shows_runs_but_not_the_password(running, password):
    token = requests.get(f"http://127.0.0.1:{running.airflow_port}/auth/token", timeout=60).json()
    page = requests.get(
        f"http://127.0.0.1:{running.airflow_port}/mlflow/",
        cookies={"_token": token["access_token"]},
        timeout=60,
    )
    assert page.status_code == 200
    assert "Scaler" in page.text
    assert password not in page.text


def test_the_login_cannot_be_turned_off_while_the_stack_is_up(running):
    output = running.make("up", expect=2, MLFLOW_AUTH="0")
    assert "Already up, with a login on MLflow. To change that, run `make down` first." in output


def test_the_doctor_finds_a_wrong_password(running):
    connection = {"conn_type": "mlflow", "host": f"http://127.0.0.1:{running.mlflow_port}", "login": "admin"}
    line = f"AIRFLOW_CONN_MLFLOW_DEFAULT='{json.dumps(connection | {'password': 'wrong-' * 3})}'\n"
    (running.folder / ".env").write_text(line)
    try:
        finding = " ".join(doctor(running)["login"].split())
    finally:
        (running.folder / ".env").unlink()
    assert findings.LOGIN_REJECTED.finding in finding
    assert findings.LOGIN_REJECTED.fix in finding
    assert "wrong-" not in finding


def test_a_password_that_was_changed_in_mlflow_is_reported_and_stops_nothing(running, password):
    change = {"username": "admin", "password": "another-password", "current_password": password}
    url = f"http://127.0.0.1:{running.mlflow_port}/api/2.0/mlflow/users/update-password"
    requests.patch(url, json=change, auth=("admin", password), timeout=60).raise_for_status()
    try:
        assert "Already up" in running.make("up")
        assert findings.LOGIN_REJECTED.finding in " ".join(doctor(running)["login"].split())
    finally:
        back = {"username": "admin", "password": password, "current_password": "another-password"}
        requests.patch(url, json=back, auth=("admin", "another-password"), timeout=60).raise_for_status()
    wait_until("the old password is valid again", lambda: search(running, ("admin", password)).ok)


def test_the_login_can_be_turned_off_and_on_with_the_same_password_and_data(running, password):
    def names(login: tuple[str, str] | None) -> set[str]:
        return {each["name"] for each in search(running, login, max_results=100).json()["experiments"]}

    baseline = names(("admin", password))
    running.make("down")
    off = running.make("up", MLFLOW_AUTH="0")
    assert "login: admin" not in off
    assert names(None) == baseline
    assert "All is well" in running.make("doctor")
    running.make("down")
    running.make("up", MLFLOW_AUTH="1")
    assert names(("admin", password)) == baseline
    assert search(running, None).status_code == 401
