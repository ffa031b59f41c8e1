"""The embedded stack as a test sees it: what it asks of it, breaks in it, and when it is whole."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import requests

from dev.tests.helpers.clones import Clone, is_alive, wait_until

if TYPE_CHECKING:
    from local_stack.airflow_api import AirflowApi

COMPONENTS = ["mlflow", "api-server", "scheduler", "dag-processor", "triggerer"]


@dataclass(frozen=True)
class Stack:
    """A stack that runs from a copy of the working tree.

    :param demo_output: what ``make demo`` said, which started it.
    :param demo_runs: the DAG runs that it left, by DAG.
    :param left_in_temporary_folder: what it left in the system's folder for temporary files.
    """

    clone: Clone
    airflow: AirflowApi
    demo_output: str
    demo_runs: dict[str, str]
    left_in_temporary_folder: list[str]

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.clone.mlflow_port}"

    @property
    def mlflow_ui_url(self) -> str:
        """Where a browser finds MLflow."""
        return f"http://localhost:{self.clone.mlflow_port}"

    @property
    def airflow_url(self) -> str:
        return f"http://localhost:{self.clone.airflow_port}"

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """Call Airflow's API."""
        return self.airflow._call(method, f"/api/v2/{path}", json=body)

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
        """The MLflow runs that the tracked tasks of a DAG run made, oldest first; parents too."""
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
        """A component's processes: the one that the supervisor started, and all below it."""
        lines = self.clone.make("status").splitlines()
        pid = next(line.split()[2] for line in lines if line.split()[:1] == [component])
        parent = psutil.Process(int(pid))
        return [parent, *parent.children(recursive=True)]

    def kill(self, component: str) -> None:
        """Kill a component; the supervisor starts it again."""
        processes = self.processes(component)
        for process in processes:
            process.kill()
        wait_until(f"{component} has ended", lambda: not any(map(is_alive, processes)))

    def stop(self, component: str) -> None:
        """Stop a component; it stays away until the next ``make up``."""
        control = [
            ".venv/bin/python",
            "-m",
            "supervisor.supervisorctl",
            "-s",
            "unix://.local/supervisor.sock",
        ]
        subprocess.run([*control, "stop", component], cwd=self.clone.folder, check=True)

    def wait_until_whole(self) -> None:
        """Wait until Airflow and MLflow answer, and hear from all of their parts."""

        def answering() -> set[str]:
            self.clone.mlflow("experiments/search", max_results=1)
            return {"mlflow", "api-server", *self.airflow.heartbeats()}

        wait_until("every component is up", answering, set(COMPONENTS).issubset)

    def wait_until_idle(self) -> None:
        """Wait until no DAG runs."""
        states = {"state": ["running", "queued"]}
        wait_until(
            "no DAG runs",
            lambda: self.airflow._call("GET", "/api/v2/dags/~/dagRuns", params=states)["dag_runs"],
            lambda runs: not runs,
        )
