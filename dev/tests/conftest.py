"""What every test of the project may use: beside its own helpers, those of the provider's tests."""

import os
from pathlib import Path
from typing import Any

import pytest

from local_stack.settings import MLFLOW_VENV

pytest_plugins = ["isolation", "mlflow_servers", "mlflow_proxy", "faults"]

os.environ["MLFLOW_SERVER"] = str(MLFLOW_VENV / "bin" / "mlflow")


def pytest_configure() -> None:
    """Let Airflow find the project's DAGs."""
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parents[2] / "dags")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests of a file to one worker, where they share what it makes; those of the stack, too.

    Its own --dist=loadgroup does nothing: https://github.com/pytest-dev/pytest-xdist/issues/1386.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByWhatIsShared(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "dev/tests/stack" if file.startswith("dev/tests/stack/") else file

    return ByWhatIsShared(config, log)
