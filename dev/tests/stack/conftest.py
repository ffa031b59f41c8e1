"""One embedded stack for all tests of this folder, started as a newcomer would; and a real browser."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dev.tests.helpers.clones import run_clone
from dev.tests.helpers.embedded_stack import Stack
from dev.tests.helpers.logging_task import LoggingTask
from dev.tests.helpers.pictures import SHOTS
from local_stack.airflow_api import AirflowApi
from local_stack.demo import DAG_IDS, PIPELINE

HERE = Path(__file__).parent
# MLflow has no login and ignores this one; nothing else may show it.
PASSWORD = "Geheim: 100% /@#"
# One DAG run of each is all that the tests look at, so all of them run at the same time.
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
# Without these, Chromium talks to its maker.
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
BROWSER_MILLISECONDS = 120_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give them time: the first of them starts the stack."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def _stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent).resolve() / "Ames 100% für alle"
        folder.mkdir()
        with run_clone(folder) as clone:
            if SHOTS:  # nothing is on the pictures but what everybody has
                clone.ports.update(AIRFLOW_PORT="8080", MLFLOW_PORT="5000")
            # A shell without locale and home, and a folder for temporary files of its own.
            temporary = Path(parent, "temporary")
            temporary.mkdir()
            bare = {"LC_ALL": "C", "HOME": None, "TMPDIR": str(temporary)}
            output = clone.make("demo", **bare, **clone.ports)
            left = [file.name for file in temporary.iterdir()]
            airflow = AirflowApi(clone.airflow_port)
            airflow.log_in()
            runs = {
                dag_id: airflow._call("GET", f"/api/v2/dags/{dag_id}/dagRuns")["dag_runs"]
                for dag_id in (*DAG_IDS, *PIPELINE)
            }
            if not SHOTS:
                _add_what_the_tests_need(clone.folder)
                clone.make("up")  # returns when the new DAGs are read
            assert airflow.import_errors() == []
            run_ids = {dag_id: run["dag_run_id"] for dag_id, [run] in runs.items()}
            yield Stack(clone, airflow, output, run_ids, left)
            clone.make("down")
            clone.assert_nothing_is_left()


def _add_what_the_tests_need(folder: Path) -> None:
    for dags in (HERE / "dags").glob("*.py"):
        if dags.name != "registry_events.py":  # copied by its tests, under other names
            shutil.copy(dags, folder / "dags")
    for name, text in PLUGIN.items():
        (folder / "plugins" / name).write_text(text)
    file = folder / "airflow_settings.yaml"
    settings = yaml.safe_load(file.read_text())
    for connection in settings["airflow"]["connections"]:
        if connection["conn_id"] == "mlflow_default":
            connection |= {"conn_login": "ada", "conn_password": PASSWORD}
    file.write_text(yaml.safe_dump(settings))


@pytest.fixture
def stack(_stack: Stack) -> Stack:
    """The stack, and all of it up, whatever the test before did."""
    _stack.wait_until_whole()
    return _stack


@pytest.fixture
def idle_stack(stack: Stack) -> Iterator[Stack]:
    """The stack for a test that breaks something: nothing else runs, and afterwards all of it is up again."""
    stack.wait_until_idle()
    yield stack
    stack.clone.make("up")


@pytest.fixture
def start_logging() -> Callable[[Stack], LoggingTask]:
    """A function that starts a task; if it runs when the test ends, it ends, too."""
    started: list[LoggingTask] = []

    def start(stack: Stack) -> LoggingTask:
        started.append(LoggingTask(stack))
        return started[-1]

    yield start
    for task in started:
        task.tell()


@pytest.fixture(scope="session")
def password() -> str:
    """The password of the connection ``mlflow_default``."""
    return PASSWORD


@pytest.fixture(scope="session")
def endings(_stack: Stack) -> dict[str, str]:
    """A DAG run, which has ended, of each DAG whose end the tests look at."""
    run_ids = {dag_id: _stack.airflow.trigger(dag_id) for dag_id in ENDINGS}
    for dag_id, run_id in run_ids.items():
        _stack.wait_for_end(dag_id, run_id)
    return run_ids


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the machine's Chromium."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        missing = "No Chromium on PATH; on Debian and Ubuntu: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    # Not for the whole session: its event loop would be in the way of other tests' loops.
    with sync_playwright() as playwright:
        # A sandbox of its own Chromium denies to root.
        browser = playwright.chromium.launch(
            executable_path=chromium, args=QUIET, chromium_sandbox=os.geteuid() != 0
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a browser that knows nothing of earlier ones."""
    expect.set_options(timeout=BROWSER_MILLISECONDS)
    with browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US") as context:
        context.set_default_timeout(BROWSER_MILLISECONDS)
        yield context.new_page()
