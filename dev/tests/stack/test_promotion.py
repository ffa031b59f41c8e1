"""Promotion with a real scheduler: skipped tasks, and approval by a person. The DAG is dags/promotion.py."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests

from dev.waiting import wait_until

if TYPE_CHECKING:
    from dev.tests.helpers.embedded_stack import Stack

PROMOTED = {"gate": "success", "predict": "success", "report": "success"}
NOT_PROMOTED = {"gate": "success", "predict": "skipped", "report": "skipped"}


@dataclass(frozen=True)
class Gate:
    """A registered model, and DAG runs that may promote a version of it."""

    name: str
    stack: Stack

    def add(self, rmse: float) -> str:
        """Create a version from a run with this error."""
        experiments = self.stack.clone.mlflow("experiments/search", max_results=1)["experiments"]
        run = self.stack.clone.mlflow("runs/create", experiment_id=experiments[0]["experiment_id"])["run"]
        run_id = run["info"]["run_id"]
        self.stack.clone.mlflow("runs/log-metric", run_id=run_id, key="rmse", value=rmse, timestamp=1)
        version = {"name": self.name, "source": "s3://bucket/housing", "run_id": run_id}
        return self.stack.clone.mlflow("model-versions/create", **version)["model_version"]["version"]

    def champion(self) -> str:
        url = f"{self.stack.mlflow_url}/api/2.0/mlflow/registered-models/alias"
        answer = requests.get(url, params={"name": self.name, "alias": "champion"}, timeout=60)
        return answer.json()["model_version"]["version"]

    def set_champion(self, version: str) -> None:
        self.stack.clone.mlflow("registered-models/alias", name=self.name, alias="champion", version=version)

    def start(self, version: str, *, wait: bool = False) -> str:
        return self.stack.airflow.trigger("promotion", name=self.name, version=version, wait=wait)

    def request_for_approval(self, run_id: str, *, tries: int = 1) -> dict[str, Any]:
        """The request that a person sees, once the task has paused this many times."""
        # Airflow 3.3 fails a task that is answered before its scheduler knows that it has paused.
        paused = f"TaskInstance Finished: dag_id=promotion, task_id=gate, run_id={run_id}"
        log = self.stack.clone.folder / ".local" / "logs" / "scheduler.log"
        wait_until("it waits for approval", lambda: log.read_text().count(paused), lambda seen: seen >= tries)
        path = f"dags/promotion/dagRuns/{quote(run_id)}/hitlDetails"
        return self.stack.call("GET", path)["hitl_details"][0]

    def answer(self, run_id: str, option: str) -> None:
        """Answer as a click under Required Actions does."""
        task = f"dags/promotion/dagRuns/{quote(run_id)}/taskInstances/gate/-1"
        self.stack.call("PATCH", f"{task}/hitlDetails", chosen_options=[option], params_input={})

    def end(self, run_id: str) -> tuple[dict[str, str], dict[str, Any]]:
        """Wait for the end of a DAG run, and return the states of its tasks and the decision."""
        self.stack.wait_for_end("promotion", run_id)
        decision = self.stack.airflow.xcom("promotion", run_id, "return_value", "gate")
        return self.stack.task_states("promotion", run_id), decision


@pytest.fixture
def gate(stack: Stack) -> Gate:
    """A model whose champion is version 1."""
    gate = Gate(f"housing {uuid.uuid4().hex[:8]}", stack)
    stack.clone.mlflow("registered-models/create", name=gate.name)
    gate.set_champion(gate.add(25_000.0))
    return gate


def test_the_tasks_after_a_worse_version_are_skipped(gate):
    states, decision = gate.end(gate.start(gate.add(26_000.0)))

    assert states == NOT_PROMOTED
    assert decision["reason"] == "rmse 26000 of version 2 is not better than 25000 of version 1."
    assert gate.champion() == "1"


def test_a_person_sees_both_versions_and_approves(gate, stack):
    run_id = gate.start(gate.add(24_000.0), wait=True)
    request = gate.request_for_approval(run_id)

    assert request["options"] == ["Approve", "Reject"]
    assert request["subject"] == f"Give version 2 of {gate.name!r} the alias 'champion'?"
    page = f"{stack.mlflow_ui_url}/#/models/{quote(gate.name)}/versions"
    for version, value in {"1": "25000", "2": "24000"}.items():
        assert (
            f"[version {version}]({page}/{version}?workflowType=machine_learning) | {value} |"
            in request["body"]
        )
    assert gate.champion() == "1"

    gate.answer(run_id, "Approve")
    states, decision = gate.end(run_id)

    assert states == PROMOTED
    assert decision["reason"].startswith(
        "rmse 24000 of version 2 is better than 25000 of version 1. Approved by "
    )
    assert gate.champion() == "2"


def test_a_version_that_a_person_rejects_is_not_promoted(gate):
    run_id = gate.start(gate.add(24_000.0), wait=True)
    gate.request_for_approval(run_id)
    gate.answer(run_id, "Reject")

    states, decision = gate.end(run_id)

    assert states == NOT_PROMOTED
    assert "is better than 25000 of version 1. Rejected by " in decision["reason"]
    assert gate.champion() == "1"


def test_a_late_approval_does_not_replace_a_better_champion(gate):
    run_id = gate.start(gate.add(24_000.0), wait=True)
    gate.request_for_approval(run_id)
    gate.set_champion(gate.add(23_000.0))
    gate.answer(run_id, "Approve")

    states, decision = gate.end(run_id)

    assert states == NOT_PROMOTED
    assert "is not better than 23000 of version 3." in decision["reason"]
    assert gate.champion() == "3"


def test_a_promotion_cleared_while_it_waits_asks_again(gate, stack):
    run_id = gate.start(gate.add(24_000.0), wait=True)
    gate.request_for_approval(run_id)
    cleared = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["gate"], "only_failed": False}
    stack.call("POST", "dags/promotion/clearTaskInstances", **cleared)
    gate.request_for_approval(run_id, tries=2)
    gate.answer(run_id, "Approve")

    assert gate.end(run_id)[0] == PROMOTED
    assert gate.champion() == "2"
