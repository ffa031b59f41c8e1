"""Who can read what: secrets on disk and in processes, and other users of the machine."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dev import MissingError
from dev.waiting import wait_until


@pytest.fixture
def as_another_user():
    """A function that runs a command as another user of this machine, and returns its output."""
    if os.geteuid():
        raise MissingError("Only root can run a command as another user.")

    def run(*command):
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        return subprocess.run([*user, *command], capture_output=True, text=True, check=False).stdout

    return run


def test_no_file_database_or_argument_contains_a_secret_that_tasks_use_and_print(stack, planted, tmp_path):
    folder, arguments = stack.clone.folder, set()
    connection = {
        "connection_id": "planted",
        "conn_type": "http",
        "host": "http://127.0.0.1",
        "port": stack.clone.mlflow_port,
        "login": "ada",
        "password": planted["planted"],
        "extra": json.dumps({"X-Token": planted["header"], "artifact_conn_id": "planted_keys"}),
    }
    stack.call("POST", "connections", **connection)

    def has_ended(dag_id, run_id):
        listed = psutil.process_iter(["cmdline"])
        arguments.update(" ".join(process.info["cmdline"] or ()) for process in listed)
        return stack.airflow.dag_run(dag_id, run_id)["end_date"]

    for dag_id in ("leaks", "mlflow_task_dag"):
        run_id = stack.airflow.trigger(dag_id)
        wait_until(f"{dag_id} has ended", lambda run=(dag_id, run_id): has_ended(*run))
    wait_until(
        "the callback of the DAG has printed",
        lambda: [*folder.glob(".local/data/airflow/logs/dag_processor/*/*/leaks.py.log")],
        lambda logs: any("printed ***" in log.read_text() for log in logs),
    )

    config = (folder / ".local/data/airflow/airflow.cfg").read_text()
    generated = re.findall(r"^(?:fernet_key|secret_key|jwt_secret) = (.+)$", config, re.MULTILINE)
    assert len(generated) == 3
    logins = (f"ada:{planted[name]}".encode() for name in ("planted", "mlflow_default"))
    # Without the characters that URLs and JSON escape.
    secrets = [*generated, *(secret.split()[-1] for secret in planted.values())]
    secrets += [base64.b64encode(login).decode().rstrip("=") for login in logins]
    (tmp_path / "secrets").write_text("\n".join(secrets))
    grep = ["grep", "--recursive", "--text", "--files-with-matches", "--fixed-strings"]
    found = subprocess.check_output([*grep, f"--file={tmp_path / 'secrets'}", "."], cwd=folder, text=True)
    # Where they were entered, and generated.
    assert set(found.split()) == {"./.env", "./airflow_settings.yaml", "./.local/data/airflow/airflow.cfg"}
    assert any("airflow" in line for line in arguments)
    assert [secret for secret in secrets if any(secret in line for line in arguments)] == []
    assert "printed ***" in (folder / ".local/logs/scheduler.log").read_text()


def test_another_user_can_read_no_file_and_no_environment_of_the_stack(stack, as_another_user):
    folder = stack.clone.folder
    environments = [f"/proc/{process.pid}/environ" for process in stack.clone.processes()]

    assert as_another_user("cat", folder / "README.md")
    assert as_another_user("find", folder / ".local", "-mindepth", "1") == ""
    assert as_another_user("cat", folder / ".local/logs/scheduler.log", *environments) == ""


def test_another_user_is_an_administrator_of_airflow(stack, as_another_user):
    """Because the api-server requires no login, and every user can reach its port: SECURITY.md says so."""
    python = Path(sys.base_prefix, "bin", "python3")
    get = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read())"
    assert "access_token" in as_another_user(python, "-c", get, f"{stack.airflow_url}/auth/token")
