"""A try of a task instance, and its runs on a real MLflow server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from mlflow_provider.tracking import parent_run
from tries import Try

if TYPE_CHECKING:
    from mlflow.entities import Run

    from mlflow_provider.hooks.client import MLflowClientHook


@pytest.fixture
def a_try(name: str, mlflow_default: str) -> Try:
    """The first try of a task instance of a new DAG run."""
    return Try(run_id=f"manual__{name}")


@pytest.fixture
def experiment(name: str) -> str:
    return name


@pytest.fixture
def runs(hook: MLflowClientHook, experiment: str) -> Callable[[], list[Run]]:
    """A function that returns the runs of the test's experiment, oldest first, without parents."""

    def search() -> list[Run]:
        experiment_id = hook.get_or_create_experiment(experiment)
        result = hook.client.search_runs([experiment_id], order_by=["attributes.start_time ASC"])
        return [run for run in result if parent_run.TAG not in run.data.tags]

    return search


@pytest.fixture
def parents(hook: MLflowClientHook, experiment: str) -> Callable[[], list[Run]]:
    """A function that returns the parent runs of the test's experiment."""

    def search() -> list[Run]:
        experiment_id = hook.get_or_create_experiment(experiment)
        return hook.client.search_runs([experiment_id], f"tags.`{parent_run.TAG}` LIKE '%'")

    return search
