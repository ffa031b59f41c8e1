"""The gate at a real registry: the alias moves to what is better, and to nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_provider.operators.promotion import PromoteModelVersionOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_provider.hooks.client import MLflowClientHook

RULE = {"metric": "rmse", "greater_is_better": False}


@dataclass(frozen=True)
class Candidates:
    """A registered model whose versions have metrics."""

    name: str
    hook: MLflowClientHook

    def add(self, model_metrics: dict[str, Any] | None = None, **run_metrics: float) -> str:
        """Create a version from a run with these metrics; with ``model_metrics``, from a logged model."""
        experiment_id = self.hook.get_or_create_experiment("Gate")
        run = self.hook.call("POST", "runs/create", {"experiment_id": experiment_id})["run"]
        run_id = run["info"]["run_id"]
        self.log(run_id, **run_metrics)
        source = "s3://bucket/housing"
        if model_metrics is not None:
            params = {"experiment_id": experiment_id, "name": "model", "source_run_id": run_id}
            model_id = self.hook.call("POST", "logged-models", params)["model"]["info"]["model_id"]
            self.log(run_id, model_id, **model_metrics)
            source = f"models:/{model_id}"
        params = {"name": self.name, "source": source, "run_id": run_id}
        return self.hook.call("POST", "model-versions/create", params)["model_version"]["version"]

    def log(self, run_id: str, model_id: str | None = None, **metrics: Any) -> None:
        for key, value in metrics.items():
            params = {"run_id": run_id, "model_id": model_id, "key": key, "value": value}
            self.hook.call("POST", "runs/log-metric", {**params, "timestamp": int(time.time() * 1000)})

    def at(self, alias: str) -> str | None:
        """The version that an alias is at."""
        aliases = self.hook.call("GET", "registered-models/get", {"name": self.name})["registered_model"]
        found = {alias["alias"]: alias["version"] for alias in aliases.get("aliases", [])}
        return found.get(alias)


@pytest.fixture
def model(hook: MLflowClientHook, name: str) -> Candidates:
    hook.create_registered_model(name)
    return Candidates(name, hook)


@pytest.fixture
def promote(execute: Callable[..., Any], model: Candidates) -> Callable[..., dict[str, Any]]:
    """A function that runs the gate for a version."""
    return lambda version, **arguments: execute(
        PromoteModelVersionOperator, **{"name": model.name, "version": version, **RULE, **arguments}
    )


def test_the_first_version_becomes_champion(promote, model):
    version = model.add(rmse=25_000.0)

    decision = promote(version)

    assert decision == {
        "promoted": True,
        "name": model.name,
        "version": "1",
        "metric": "rmse",
        "value": 25_000.0,
        "champion_version": None,
        "champion_value": None,
        "reason": "rmse 25000 of version 1, and there is no champion yet.",
    }
    assert (model.at("champion"), model.at("previous")) == ("1", None)


def test_a_better_version_becomes_champion_and_the_old_one_previous(promote, model):
    promote(model.add(rmse=25_000.0))

    decision = promote(model.add(rmse=24_000.5))

    assert decision == {
        "promoted": True,
        "name": model.name,
        "version": "2",
        "metric": "rmse",
        "value": 24_000.5,
        "champion_version": "1",
        "champion_value": 25_000.0,
        "reason": "rmse 24000.5 of version 2 is better than 25000 of version 1.",
    }
    assert (model.at("champion"), model.at("previous")) == ("2", "1")


@pytest.mark.parametrize("value", [25_000.0, 26_000.0])
def test_an_equal_or_a_worse_version_is_rejected(promote, model, value):
    promote(model.add(rmse=25_000.0))

    decision = promote(model.add(rmse=value))

    assert not decision["promoted"]
    assert decision["reason"] == f"rmse {value:g} of version 2 is not better than 25000 of version 1."
    assert (model.at("champion"), model.at("previous")) == ("1", None)
