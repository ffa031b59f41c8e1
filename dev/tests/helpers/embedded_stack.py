"""The embedded stack in tests: requests to it, ways to break it, and when it is up again."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import requests

from dev.tests.helpers.clones import Clone, is_alive
from dev.waiting import wait_until

if TYPE_CHECKING:
    from local_stack.airflow_api import AirflowApi

COMPONENTS = ["mlflow", "api-server", "scheduler", "dag-processor", "triggerer"]


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


@dataclass(frozen=True)
class Stack:
    """A stack that runs from a copy of the working tree.

    :param demo_output: the output of ``make demo``, which started it.
    :param demo_runs: the demo's DAG runs, by DAG ID.
    :param temporary_files: files that the demo left in the system's temporary folder.
    """

    clone: Clone
    airflow: AirflowApi
    demo_output: str
    demo_runs: dict[str, str]
    temporary_files: list[str]

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.clone.mlflow_port}"

    @property
    def mlflow_ui_url(self) -> str:
        """MLflow's address for a browser."""
        return f"http://localhost:{self.clone.mlflow_port}"

    @property
    def airflow_url(self) -> str:
        return f"http://localhost:{self.clone.airflow_port}"

    def call(self, method: str, path: str, **body: Any) -> Any:
        """Call Airflow's API."""
        return self.airflow.call(method, f"/api/v2/{path}", json=body)

    def wait_for_end(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Wait until the DAG run has ended, and return it."""
        return wait_until(
            f"{dag_id} {run_id} has ended",
            lambda: self.airflow.dag_run(dag_id, run_id),
            lambda run: run["end_date"],
        )

    def run(self, dag_id: str) -> str:
        """Run the DAG to its end, and return the DAG run's ID."""
        run_id = self.airflow.trigger(dag_id)
        self.wait_for_end(dag_id, run_id)
        return run_id

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.airflow.task_instances(dag_id, run_id)}

    def mlflow_runs(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The MLflow runs of a DAG run in its DAG's experiment, including parent runs, oldest first."""
        experiment = requests.get(
            f"{self.mlflow_url}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": dag_id},
            timeout=60,
        )
        if experiment.status_code == requests.codes.not_found:
            return []
        experiment.raise_for_status()
        return self.clone.mlflow(
            "runs/search",
            experiment_ids=[experiment.json()["experiment"]["experiment_id"]],
            filter=f"tags.`airflow.run_id` = '{run_id}'",
            order_by=["attributes.start_time ASC"],
            max_results=1000,
        ).get("runs", [])

    def mlflow_statuses(self, dag_id: str, run_id: str) -> list[str]:
        return [run["info"]["status"] for run in self.mlflow_runs(dag_id, run_id)]

    def processes(self, component: str) -> list[psutil.Process]:
        """A component's processes: the one that the supervisor started, and all its descendants."""
        lines = self.clone.make("status").splitlines()
        pid = next(line.split()[2] for line in lines if line.split()[:1] == [component])
        parent = psutil.Process(int(pid))
        return [parent, *parent.children(recursive=True)]

    def kill(self, component: str) -> None:
        """Kill a component; the supervisor restarts it."""
        processes = self.processes(component)
        for process in processes:
            process.kill()
        wait_until(f"{component} has ended", lambda: not any(map(is_alive, processes)))

    def stop(self, component: str) -> None:
        """Stop a component until the next ``make up``."""
        control = [".venv/bin/supervisorctl", "-s", "unix://.local/supervisor.sock", "stop", component]
        subprocess.run(control, cwd=self.clone.folder, check=True)

    def wait_until_whole(self) -> None:
        """Wait until every component responds."""

        def find_components() -> set[str]:
            self.clone.mlflow("experiments/search", max_results=1)
            return {"mlflow", "api-server", *self.airflow.heartbeats()}

        wait_until("every component is up", find_components, set(COMPONENTS).issubset)

    def wait_until_idle(self) -> None:
        """Wait until no DAG runs."""
        states = {"state": ["running", "queued"]}
        wait_until(
            "no DAG runs",
            lambda: self.airflow.call("GET", "/api/v2/dags/~/dagRuns", params=states)["dag_runs"],
            lambda runs: not runs,
        )
