"""Settings of all tests, and plugins with fixtures."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from dev import MissingError
from dev.tools.faults import target_of
from local_stack.settings import MLFLOW_VENV

pytest_plugins = [
    "isolation",
    "mlflow_servers",
    "mlflow_proxy",
    "faults",
    "databricks_stand_in",
    "dev.tests.helpers.browser",
]

os.environ["MLFLOW_SERVER"] = str(MLFLOW_VENV / "bin" / "mlflow")


def pytest_configure() -> None:
    """Let Airflow find the project's DAGs."""
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parents[2] / "dags")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In `make -C dev faults`, skip the suites that have their own target; they are only listed."""
    if config.option.markexpr == "fault":
        for item in items:
            if target := target_of(item.location[0]):
                item.add_marker(pytest.mark.skip(reason=f"`make -C dev {target}` runs it."))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """Skip a test whose fixtures miss a requirement. In CI this is a failure."""
    try:
        yield
    except MissingError as missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run each file in one worker, because its tests share fixtures; likewise all tests of the stack.

    Its own --dist=loadgroup does nothing: https://github.com/pytest-dev/pytest-xdist/issues/1386.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "dev/tests/stack" if file.startswith("dev/tests/stack/") else file

    return ByFile(config, log)
