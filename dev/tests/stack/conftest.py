"""One embedded stack for all tests of this folder, started as by a newcomer; and a real browser."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from dev.tests.helpers.clones import run_clone
from dev.tests.helpers.embedded_stack import Stack
from dev.tests.helpers.logging_task import LoggingTask
from dev.tests.helpers.pictures import SHOTS
from local_stack.airflow_api import AirflowApi
from local_stack.demo import DAG_IDS, PIPELINE

HERE = Path(__file__).parent
# Secrets of connections, by name. MLflow has no login and ignores them; they must not appear anywhere.
PLANTED = {
    name: f"Geheim: 100% /@# {secrets.token_hex(8)}"
    for name in ("mlflow_default", "planted", "planted_keys", "header")
}
# The tests only need one DAG run of each of these, so all of them run at the same time.
ENDINGS = (
    "sweep",
    "raises",
    "killed_then_retried",
    "killed",
    "killed_mapped",
    "times_out",
    "uses_the_context_manager",
    "is_async",
)
# A plugin that imports another file of its folder.
PLUGIN = {
    "plugin_name.py": 'NAME = "cloners_plugin"',
    "plugin.py": """
from airflow.plugins_manager import AirflowPlugin
from plugin_name import NAME

class ClonersPlugin(AirflowPlugin):
    name = NAME
""",
}
BROWSER_MILLISECONDS = 120_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise the timeout, because the first test starts the stack."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def _stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)  # other users of the machine can reach the project
        folder = Path(parent).resolve() / "Ames 100% für alle"
        folder.mkdir()
        with run_clone(folder) as clone:
            clone.umask = 0o022
            if SHOTS:  # the pictures show the default ports
                clone.ports.update(AIRFLOW_PORT="8080", MLFLOW_PORT="5000")
            # A shell without a locale and a home, and with its own temporary folder.
            temporary = Path(parent, "temporary")
            temporary.mkdir()
            bare = {"LC_ALL": "C", "HOME": None, "TMPDIR": str(temporary)}
            output = clone.make("demo", **bare, **clone.ports)
            temporary_files = [file.name for file in temporary.iterdir()]
            airflow = AirflowApi(clone.airflow_port)
            airflow.log_in()
            runs = {
                dag_id: airflow.call("GET", f"/api/v2/dags/{dag_id}/dagRuns")["dag_runs"]
                for dag_id in (*DAG_IDS, *PIPELINE)
            }
            if not SHOTS:
                _add_what_the_tests_need(clone.folder)
                clone.make("up")  # returns when the new DAGs are parsed
            assert airflow.import_errors() == []
            run_ids = {dag_id: run["dag_run_id"] for dag_id, [run] in runs.items()}
            yield Stack(clone, airflow, output, run_ids, temporary_files)
            clone.make("down")
            clone.assert_nothing_is_left()


def _add_what_the_tests_need(folder: Path) -> None:
    packages = ["hyperopt>=0.3,<0.4", "optuna-integration>=5,<6"]
    install = [".local/uv/bin/uv", "pip", "install", "--python=.venv", *packages]
    subprocess.run(install, cwd=folder, check=True, capture_output=True)
    for dags in (HERE / "dags").glob("*.py"):
        if dags.name != "registry_events.py":  # copied by its tests, under other names
            shutil.copy(dags, folder / "dags")
    for name, text in PLUGIN.items():
        (folder / "plugins" / name).write_text(text)
    file = folder / "airflow_settings.yaml"
    settings = yaml.safe_load(file.read_text())
    for connection in settings["airflow"]["connections"]:
        if connection["conn_id"] == "mlflow_default":
            connection |= {"conn_login": "ada", "conn_password": PLANTED["mlflow_default"]}
    file.write_text(yaml.safe_dump(settings))
    keys = {"conn_type": "aws", "login": "ada", "password": PLANTED["planted_keys"]}
    lines = [f"AIRFLOW_CONN_PLANTED_KEYS='{json.dumps(keys)}'", "AIRFLOW_ALLOWED_HOSTS=airflow.example.com"]
    (folder / ".env").write_text("\n".join(lines))
    (folder / ".env").chmod(0o600)


@pytest.fixture
def stack(_stack: Stack) -> Stack:
    """The stack, with every component up."""
    _stack.wait_until_whole()
    return _stack


@pytest.fixture
def idle_stack(stack: Stack) -> Iterator[Stack]:
    """The stack for a test that breaks something: no DAG runs, and everything is restarted afterwards."""
    stack.wait_until_idle()
    yield stack
    stack.clone.make("up")


@pytest.fixture
def start_logging() -> Callable[[Stack], LoggingTask]:
    """A function that starts a task, which ends at the end of the test at the latest."""
    tasks: list[LoggingTask] = []

    def start(stack: Stack) -> LoggingTask:
        tasks.append(LoggingTask(stack))
        return tasks[-1]

    yield start
    for task in tasks:
        task.stop()


@pytest.fixture
def planted() -> dict[str, str]:
    """Secrets that must not appear anywhere, by the name of their connection."""
    return PLANTED


@pytest.fixture(scope="session")
def endings(_stack: Stack) -> dict[str, str]:
    """A finished DAG run of each DAG in ``ENDINGS``."""
    run_ids = {dag_id: _stack.airflow.trigger(dag_id) for dag_id in ENDINGS}
    for dag_id, run_id in run_ids.items():
        _stack.wait_for_end(dag_id, run_id)
    return run_ids


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a new browser profile."""
    expect.set_options(timeout=BROWSER_MILLISECONDS)
    with browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US") as context:
        context.set_default_timeout(BROWSER_MILLISECONDS)
        yield context.new_page()
