"""The model registry starts DAG runs, with a real scheduler and triggerer: no event is lost or repeated.

The DAGs are in dags/registry_events.py; provider/tests/contract/triggers has what needs no Airflow. The
tests are one story, told in order: each starts from the versions and aliases that the one before left.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from local.airflow_api import AirflowApi
from tests.helpers.clones import Clone, is_alive, wait_until

DAGS = Path(__file__).parent / "dags" / "registry_events.py"
WATCHES = ["versions", "champions", "challengers"]
# Airflow gives the triggers of a triggerer to another one after 30 s without a sign of life.
PATIENCE_SECONDS = 180
SEVERAL_LOOKS_SECONDS = 10


@dataclass
class Stage:
    """A running stack with the DAGs, and what a test does with it."""

    clone: Clone
    airflow: AirflowApi

    def create_version(self) -> str:
        answer = self.clone.mlflow("model-versions/create", name="Housing", source="s3://bucket/housing")
        return answer["model_version"]["version"]

    def set_alias(self, alias: str, version: str) -> None:
        url = f"http://127.0.0.1:{self.clone.mlflow_port}/api/2.0/mlflow/registered-models/alias"
        body = {"name": "Housing", "alias": alias, "version": version}
        requests.post(url, json=body, timeout=30).raise_for_status()

    def cursors(self) -> dict[str, str]:
        """The version each watch has announced last, by asset."""
        cursors = {}
        for asset in self.airflow._call("GET", "/api/v2/assets")["assets"]:
            path = f"/api/v2/assets/{asset['id']}/state-store"
            for entry in self.airflow._call("GET", path)["asset_state_store"]:
                cursors[asset["name"]] = entry["value"]["version"]
        return cursors

    def wait_for_cursors(self, **expected: str) -> None:
        wait_until(lambda: expected.items() <= self.cursors().items(), PATIENCE_SECONDS)

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return self.airflow._call("GET", f"/api/v2/dags/{dag_id}/dagRuns")["dag_runs"]

    def announced(self, dag_id: str) -> list[tuple[str | None, list[str]]]:
        """The previous and the new versions of every event that started a DAG run, in order."""
        wait_until(lambda: all(run["end_date"] for run in self.runs(dag_id)), PATIENCE_SECONDS)
        runs = sorted(self.runs(dag_id), key=lambda run: run["run_after"])
        found = [self.airflow.xcom(dag_id, run["dag_run_id"], "return_value") for run in runs]
        return [(each["previous_version"], each["versions"]) for payloads in found for each in payloads]

    def kill_triggerer(self) -> None:
        status = self.clone.make("status").splitlines()
        pid = next(line.split()[2] for line in status if " triggerer " in line)
        parent = psutil.Process(int(pid))
        processes = [parent, *parent.children(recursive=True)]
        for process in processes:
            process.kill()
        wait_until(lambda: not any(map(is_alive, processes)), 30)


@pytest.fixture(scope="module")
def stage(clone: Clone) -> Stage:
    shutil.copy(DAGS, clone.folder / "dags")
    clone.make("up", **clone.ports)
    airflow = AirflowApi(clone.airflow_port)
    airflow.log_in()
    stage = Stage(clone, airflow)
    clone.mlflow("registered-models/create", name="Housing")
    stage.create_version()
    stage.set_alias("champion", "1")
    for dag_id in [*WATCHES, "waits"]:
        airflow._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})
    return stage


def test_what_is_there_when_the_watch_begins_is_no_event(stage):
    wait_until(lambda: len(stage.cursors()) == len(WATCHES), PATIENCE_SECONDS)

    assert stage.cursors() == {"versions": "1", "champions": "1", "challengers": None}
    time.sleep(SEVERAL_LOOKS_SECONDS)
    assert [stage.runs(dag_id) for dag_id in WATCHES] == [[], [], []]


def test_a_moved_champion_starts_one_dag_run_that_knows_the_version(stage):
    stage.set_alias("champion", stage.create_version())
    stage.wait_for_cursors(champions="2", versions="2")
    time.sleep(SEVERAL_LOOKS_SECONDS)

    assert stage.announced("champions") == [("1", ["2"])]
    assert stage.announced("versions") == [("1", ["2"])]
    [run] = stage.runs("champions")
    assert stage.airflow.xcom("champions", run["dag_run_id"], "return_value") == [
        {
            "name": "Housing",
            "alias": "champion",
            "version": "2",
            "versions": ["2"],
            "previous_version": "1",
            "run_id": None,
            "model_uri": "models:/Housing/2",
        }
    ]
    assert stage.runs("challengers") == []


def test_what_happens_while_the_triggerer_is_killed_is_announced_once(stage):
    stage.kill_triggerer()
    for version in [stage.create_version() for _ in range(3)]:
        stage.set_alias("champion", version)
    stage.set_alias("challenger", "3")
    stage.wait_for_cursors(champions="5", versions="5", challengers="3")
    time.sleep(SEVERAL_LOOKS_SECONDS)

    assert stage.announced("versions") == [("1", ["2"]), ("2", ["3", "4", "5"])]
    assert stage.announced("champions") == [("1", ["2"]), ("2", ["5"])]
    assert stage.announced("challengers") == [(None, ["3"])]


def test_a_killed_triggerer_repeats_nothing_when_nothing_happened(stage):
    before = {dag_id: stage.announced(dag_id) for dag_id in WATCHES}
    stage.kill_triggerer()
    stage.set_alias("challenger", "4")
    stage.wait_for_cursors(challengers="4")
    time.sleep(SEVERAL_LOOKS_SECONDS)

    after = {dag_id: stage.announced(dag_id) for dag_id in WATCHES}
    assert after == {**before, "challengers": [*before["challengers"], ("3", ["4"])]}


def test_a_deferred_sensor_outlives_the_triggerer(stage):
    run_id = stage.airflow._call(
        "POST", "/api/v2/dags/waits/dagRuns", json={"logical_date": None, "conf": {"known": "5"}}
    )["dag_run_id"]

    def state() -> str:
        [task] = stage.airflow.task_instances("waits", run_id)
        return task["state"]

    wait_until(lambda: state() == "deferred", PATIENCE_SECONDS)
    stage.kill_triggerer()
    stage.set_alias("champion", stage.create_version())
    wait_until(lambda: stage.airflow.dag_run("waits", run_id)["end_date"], PATIENCE_SECONDS)

    assert state() == "success"
    found = {key: stage.airflow.xcom("waits", run_id, key) for key in ("name", "version", "model_uri")}
    assert found == {"name": "Housing", "version": "6", "model_uri": "models:/Housing/6"}
