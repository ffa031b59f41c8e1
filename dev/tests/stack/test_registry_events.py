"""The model registry starts DAG runs with a real scheduler and triggerer: no event is lost or repeated.

The DAGs are in dags/registry_events.py. provider/tests/contract/triggers has the tests without Airflow.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dev.waiting import wait_until

if TYPE_CHECKING:
    from dev.tests.helpers.embedded_stack import Stack

DAGS = Path(__file__).parent / "dags" / "registry_events.py"
WATCHES = ["versions", "champions", "challengers"]
SEVERAL_POLLS_SECONDS = 5


@dataclass(frozen=True)
class Watched:
    """A registered model, and the DAGs that watch it; their names start with the model's."""

    name: str
    stack: Stack

    def create_version(self) -> str:
        answer = self.stack.clone.mlflow(
            "model-versions/create", name=self.name, source="s3://bucket/housing"
        )
        return answer["model_version"]["version"]

    def set_alias(self, alias: str, version: str) -> None:
        self.stack.clone.mlflow("registered-models/alias", name=self.name, alias=alias, version=version)

    def cursors(self) -> dict[str, str | None]:
        """The version that each watch announced last."""
        cursors = {}
        pattern = {"name_pattern": f"{self.name}_%"}
        for asset in self.stack.airflow.call("GET", "/api/v2/assets", params=pattern)["assets"]:
            watch = asset["name"].removeprefix(f"{self.name}_")
            for entry in self.stack.call("GET", f"assets/{asset['id']}/state-store")["asset_state_store"]:
                cursors[watch] = entry["value"]["version"]
        return cursors

    def wait_for_cursors(self, **expected: str | None) -> None:
        wait_until(f"{expected} are announced", self.cursors, lambda seen: expected.items() <= seen.items())

    def runs(self, watch: str) -> list[dict[str, Any]]:
        return self.stack.call("GET", f"dags/{self.name}_{watch}/dagRuns")["dag_runs"]

    def announced(self, watch: str) -> list[tuple[str | None, list[str]]]:
        """The previous and the new versions of each event that started a DAG run, in order."""
        return [(event["previous_version"], event["versions"]) for event in self.events(watch)]

    def events(self, watch: str) -> list[dict[str, Any]]:
        runs = wait_until(
            "its DAG runs have ended",
            lambda: self.runs(watch),
            lambda runs: all(run["end_date"] for run in runs),
        )
        runs = sorted(runs, key=lambda run: run["run_after"])
        dag_id = f"{self.name}_{watch}"
        xcoms = [self.stack.airflow.xcom(dag_id, run["dag_run_id"], "return_value") for run in runs]
        return [event for events in xcoms for event in events]


@pytest.fixture(scope="module")
def watched(_stack: Stack) -> Iterator[list[Watched]]:
    """Two watched models; the champion of each has moved from version 1 to 2."""
    models = [Watched(f"housing_{uuid.uuid4().hex[:8]}", _stack) for _ in range(2)]
    files = [_stack.clone.folder / "dags" / f"{model.name}.py" for model in models]
    for model, file in zip(models, files, strict=True):
        shutil.copy(DAGS, file)
        _stack.clone.mlflow("registered-models/create", name=model.name)
        model.set_alias("champion", model.create_version())
    names = {file.name for file in files}
    wait_until("the DAGs are parsed", _stack.airflow.parsed, lambda parsed: names <= parsed.keys())
    for model in models:
        for watch in [*WATCHES, "waits"]:
            _stack.call("PATCH", f"dags/{model.name}_{watch}", is_paused=False)
    for model in models:
        model.wait_for_cursors(versions="1", champions="1", challengers=None)
        model.set_alias("champion", model.create_version())
    for model in models:
        model.wait_for_cursors(versions="2", champions="2")
    time.sleep(SEVERAL_POLLS_SECONDS)
    yield models
    for file in files:
        file.unlink()


@dataclass(frozen=True)
class Outage:
    """Two models after the triggerer was killed: then much happened to one, and little to the other."""

    quiet: Watched
    busy: Watched
    sensor_run: tuple[str, str]


@pytest.fixture(scope="module")
def outage(watched: list[Watched], _stack: Stack) -> Outage:
    quiet, busy = watched
    dag_id = f"{busy.name}_waits"
    sensor_run = (dag_id, _stack.airflow.trigger(dag_id))
    wait_until(
        "the sensor is deferred",
        lambda: _stack.task_states(*sensor_run),
        lambda states: states == {"wait": "deferred"},
    )
    _stack.kill("triggerer")
    for version in [busy.create_version() for _ in range(3)]:
        busy.set_alias("champion", version)
    busy.set_alias("challenger", "3")
    quiet.set_alias("challenger", "2")
    busy.wait_for_cursors(versions="5", champions="5", challengers="3")
    quiet.wait_for_cursors(challengers="2")
    time.sleep(SEVERAL_POLLS_SECONDS)
    return Outage(quiet, busy, sensor_run)


def test_a_moved_champion_starts_one_dag_run_with_the_version(watched):
    """The state when the watch began is not an event."""
    quiet, _ = watched
    assert quiet.announced("versions") == [("1", ["2"])]
    assert quiet.events("champions") == [
        {
            "name": quiet.name,
            "alias": "champion",
            "version": "2",
            "versions": ["2"],
            "previous_version": "1",
            "run_id": None,
            "model_uri": f"models:/{quiet.name}/2",
        }
    ]


@pytest.mark.fault(
    "The triggerer is killed while assets are watched",
    sees="nothing; each event starts one DAG run",
    green="by itself",
)
def test_events_during_an_outage_of_the_triggerer_are_announced_once(outage):
    assert outage.busy.announced("versions") == [("1", ["2"]), ("2", ["3", "4", "5"])]
    assert outage.busy.announced("champions") == [("1", ["2"]), ("2", ["5"])]
    assert outage.busy.announced("challengers") == [(None, ["3"])]


def test_a_killed_triggerer_does_not_repeat_events(outage):
    assert outage.quiet.announced("versions") == [("1", ["2"])]
    assert outage.quiet.announced("champions") == [("1", ["2"])]
    assert outage.quiet.announced("challengers") == [(None, ["2"])]


@pytest.mark.fault(
    "The triggerer is killed while a sensor is deferred",
    sees="a sensor that waits longer",
    green="by itself",
)
def test_a_deferred_sensor_survives_the_triggerer(outage, stack):
    assert stack.wait_for_end(*outage.sensor_run)["state"] == "success"
    xcoms = {key: stack.airflow.xcom(*outage.sensor_run, key) for key in ("name", "version", "model_uri")}
    name = outage.busy.name
    assert xcoms == {"name": name, "version": "5", "model_uri": f"models:/{name}/5"}
