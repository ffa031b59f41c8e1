"""``@task.mlflow`` with a real scheduler: after each test MLflow holds exactly the runs it should.

What needs no scheduler is in provider/tests/contract/tracked_run/. The DAGs are in dags/task_mlflow.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from local.airflow_api import AirflowApi
from tests.helpers.clones import Clone, wait_until

DAGS = Path(__file__).parent / "dags" / "task_mlflow.py"
DAG_IDS = ["sweep", "raises", "killed_then_retried", "killed", "killed_mapped", "times_out", "waits"]
PASSWORD = "Geheim: 100% /@#"
OUTAGE_SECONDS = 20
STOP_MLFLOW_FOR_A_WHILE = f"""
import time
from local import supervision
supervisor = supervision.connect()
supervisor.stopProcess("mlflow")
time.sleep({OUTAGE_SECONDS})
supervisor.startProcess("mlflow")
"""


@dataclass
class Stage:
    """A running stack with the DAGs, and what a test does with it."""

    clone: Clone
    airflow: AirflowApi

    @property
    def go(self) -> Path:
        return self.clone.folder / "dags" / DAGS.with_suffix(".go").name

    def start(self, dag_id: str) -> str:
        self.go.unlink(missing_ok=True)
        return self.airflow.trigger(dag_id)

    def run(self, dag_id: str) -> str:
        run_id = self.start(dag_id)
        self.wait(dag_id, run_id)
        return run_id

    def wait(self, dag_id: str, run_id: str) -> None:
        wait_until(lambda: self.airflow.dag_run(dag_id, run_id)["end_date"], 300)

    def wait_for_run(self, dag_id: str, run_id: str, number: int = 1) -> None:
        """Wait until MLflow shows that many runs of the DAG run, the newest of them RUNNING."""

        def shown() -> bool:
            statuses = [run["info"]["status"] for run in self.runs(dag_id, run_id)]
            return len(statuses) == number and statuses[-1] == "RUNNING"

        wait_until(shown, 120)

    def runs(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The MLflow runs of a DAG run, oldest first; parents too."""
        try:
            path = f"http://127.0.0.1:{self.clone.mlflow_port}/api/2.0/mlflow/experiments/get-by-name"
            found = requests.get(path, params={"experiment_name": dag_id}, timeout=30)
            found.raise_for_status()
            experiment_id = found.json()["experiment"]["experiment_id"]
            criteria = f"tags.`airflow.run_id` = '{run_id}'"
            return self.clone.mlflow(
                "runs/search",
                experiment_ids=[experiment_id],
                filter=criteria,
                order_by=["attributes.start_time ASC"],
                max_results=1000,
            ).get("runs", [])
        except requests.RequestException:
            return []

    def statuses(self, dag_id: str, run_id: str) -> list[str]:
        return [run["info"]["status"] for run in self.runs(dag_id, run_id)]

    @property
    def ui_url(self) -> str:
        """Where a browser finds MLflow; tasks find it at 127.0.0.1."""
        return f"http://localhost:{self.clone.mlflow_port}"

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.clone.airflow_port}{path}"

    def page(self, path: str) -> str:
        token = requests.get(self.url("/auth/token"), timeout=30).json()["access_token"]
        cookies = {"_token": token}  # as a browser would send it
        return requests.get(self.url(path), cookies=cookies, timeout=30).text

    def ask(self, method: str, path: str, **body: Any) -> Any:
        return self.airflow._call(method, f"/api/v2/dags/{path}", json=body)

    def clear(self, dag_id: str, run_id: str) -> None:
        self.ask("POST", f"{dag_id}/clearTaskInstances", dry_run=False, dag_run_id=run_id, only_failed=False)


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


@pytest.fixture(scope="module")
def stage(clone: Clone) -> Stage:
    shutil.copy(DAGS, clone.folder / "dags")
    clone.make("up", AIRFLOW_PORT=str(clone.airflow_port), MLFLOW_PORT=str(clone.mlflow_port))
    airflow = AirflowApi(clone.airflow_port)
    airflow.log_in()
    # The server has no login and ignores this one; nothing else may show it.
    connection = {
        "connection_id": "mlflow_default",
        "conn_type": "mlflow",
        "host": f"http://127.0.0.1:{clone.mlflow_port}",
        "login": "ada",
        "password": PASSWORD,
        "extra": json.dumps({"ui_url": f"http://localhost:{clone.mlflow_port}"}),
    }
    assert airflow.create_or_replace("connections", [connection]) == []
    return Stage(clone, airflow)


def test_sixteen_mapped_tasks_share_one_parent(stage):
    run_id = stage.run("sweep")

    runs = stage.runs("sweep", run_id)
    [parent] = [run for run in runs if "airflow.parent_run" in tags_of(run)]
    children = [tags_of(run) for run in runs if run is not parent]
    assert Counter(run["info"]["status"] for run in runs) == {"FINISHED": 17}
    assert sorted(int(child["airflow.map_index"]) for child in children) == list(range(16))
    assert {child["mlflow.parentRunId"] for child in children} == {parent["info"]["run_id"]}


def test_a_task_that_raises_has_failed_with_the_reason(stage):
    run_id = stage.run("raises")

    [run] = stage.runs("raises", run_id)
    assert run["info"]["status"] == "FAILED"
    assert tags_of(run)["airflow.reason"] == "ValueError: no sales in 2011"


def test_the_retry_of_a_task_that_was_killed_continues_its_run(stage):
    run_id = stage.run("killed_then_retried")

    [run] = stage.runs("killed_then_retried", run_id)
    assert run["info"]["status"] == "FINISHED"
    assert tags_of(run)["airflow.try_number"] == "2"


@pytest.mark.parametrize(("dag_id", "runs"), [("killed", 1), ("killed_mapped", 3)])
def test_a_task_that_was_killed_for_good_is_closed(stage, dag_id, runs):
    run_id = stage.run(dag_id)

    wait_until(lambda: stage.statuses(dag_id, run_id) == ["KILLED"] * runs, 60)


def test_a_task_that_times_out_was_killed(stage):
    run_id = stage.run("times_out")

    [run] = stage.runs("times_out", run_id)
    assert run["info"]["status"] == "KILLED"
    assert tags_of(run)["airflow.reason"].startswith("AirflowTaskTimeout")


def test_a_task_that_is_cleared_after_its_end_starts_a_new_run(stage):
    run_id = stage.start("waits")
    stage.go.touch()
    stage.wait("waits", run_id)
    stage.clear("waits", run_id)
    wait_until(lambda: len(stage.runs("waits", run_id)) == 2, 60)
    stage.wait("waits", run_id)

    assert stage.statuses("waits", run_id) == ["FINISHED", "FINISHED"]


def test_a_task_that_is_cleared_while_it_runs_was_killed_and_starts_a_new_run(stage):
    run_id = stage.start("waits")
    stage.wait_for_run("waits", run_id)
    stage.clear("waits", run_id)
    stage.wait_for_run("waits", run_id, number=2)
    stage.go.touch()
    stage.wait("waits", run_id)

    assert stage.statuses("waits", run_id) == ["KILLED", "FINISHED"]


def test_a_task_that_is_marked_failed_while_it_runs_was_killed(stage):
    run_id = stage.start("waits")
    stage.wait_for_run("waits", run_id)
    stage.ask("PATCH", f"waits/dagRuns/{run_id}/taskInstances/waits", new_state="failed")

    wait_until(lambda: stage.statuses("waits", run_id) == ["KILLED"], 60)


def test_a_task_survives_twenty_seconds_without_mlflow(stage):
    run_id = stage.start("logs_for_long")
    stage.wait_for_run("logs_for_long", run_id)
    stage.go.touch()
    python = stage.clone.folder / ".venv" / "bin" / "python"
    subprocess.run([python, "-c", STOP_MLFLOW_FOR_A_WHILE], cwd=stage.clone.folder, check=True)
    stage.wait("logs_for_long", run_id)

    assert stage.airflow.dag_run("logs_for_long", run_id)["state"] == "success"
    assert stage.statuses("logs_for_long", run_id) == ["FINISHED"]


@pytest.mark.parametrize("dag_id", ["uses_the_context_manager", "is_async"])
def test_other_kinds_of_tasks_have_a_run_too(stage, dag_id):
    run_id = stage.run(dag_id)

    assert stage.statuses(dag_id, run_id) == ["FINISHED"]


def test_a_task_instance_has_a_button_to_its_run(stage):
    run_id = stage.run("raises")

    [run] = stage.runs("raises", run_id)
    links = stage.ask("GET", f"raises/dagRuns/{run_id}/taskInstances/raises/links")["extra_links"]
    page = f"{stage.ui_url}/#/experiments/{run['info']['experiment_id']}"
    assert links == {
        "MLflow run": f"{page}/runs/{run['info']['run_id']}",
        "MLflow experiment": page,
    }


def test_airflow_has_a_page_with_the_newest_runs_and_one_with_those_of_a_dag_run(stage):
    run_id = stage.run("raises")
    [run] = stage.runs("raises", run_id)

    info = run["info"]
    for page in (stage.page("/mlflow/"), stage.page(f"/mlflow/dags/raises/runs/{run_id}")):
        assert f'href="{stage.ui_url}"' in page
        assert f'href="{stage.ui_url}/#/experiments/{info["experiment_id"]}/runs/{info["run_id"]}"' in page
        assert "ValueError: no sales in 2011" in page


def test_the_password_is_nowhere(stage):
    """After all of the above: in no log, rendered template, XCom or tag."""
    shown = ""
    for log in (stage.clone.folder / ".local").rglob("*.log"):
        shown += log.read_text(errors="replace")
    for dag_id in DAG_IDS:
        for dag_run in stage.ask("GET", f"{dag_id}/dagRuns")["dag_runs"]:
            path = f"{dag_id}/dagRuns/{dag_run['dag_run_id']}/taskInstances"
            shown += str(stage.ask("GET", path))  # with what its templates were rendered to
            shown += str(stage.ask("GET", f"{path}/~/xcomEntries?limit=1000"))
            shown += str(stage.runs(dag_id, dag_run["dag_run_id"]))

    assert "no sales in 2011" in shown
    assert "mlflow_run_link" in shown
    assert PASSWORD not in shown
    assert PASSWORD.split()[0] not in shown
