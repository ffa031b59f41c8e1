"""A task that logs to its run until it is stopped; its DAG is in dev/tests/stack/dags/task_mlflow.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dev.waiting import wait_until

if TYPE_CHECKING:
    from dev.tests.helpers.embedded_stack import Stack


class LoggingTask:
    """A DAG run whose task logs to its MLflow run until it is stopped."""

    dag_id = "logs_until_stopped"

    def __init__(self, stack: Stack, run_id: str | None = None) -> None:
        self.stack = stack
        stack.airflow.unpause(self.dag_id)
        body = {"logical_date": None, "dag_run_id": run_id}
        self.run_id = stack.call("POST", f"dags/{self.dag_id}/dagRuns", **body)["dag_run_id"]

    def stop(self) -> None:
        file = self.stack.clone.folder / "dags" / "task_mlflow.stop" / self.run_id
        file.parent.mkdir(exist_ok=True)
        file.touch()

    def wait_for_end(self) -> dict[str, Any]:
        return self.stack.wait_for_end(self.dag_id, self.run_id)

    def statuses(self) -> list[str]:
        return self.stack.mlflow_statuses(self.dag_id, self.run_id)

    def wait_for_run(self, number: int = 1) -> None:
        """Wait until there are that many MLflow runs, and the newest of them is running."""
        wait_until(
            f"its MLflow run number {number} is running",
            self.statuses,
            lambda statuses: len(statuses) == number and statuses[-1] == "RUNNING",
        )

    def clear(self) -> None:
        path = f"dags/{self.dag_id}/clearTaskInstances"
        self.stack.call("POST", path, dry_run=False, dag_run_id=self.run_id, only_failed=False)

    def mark_failed(self) -> None:
        path = f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.dag_id}"
        self.stack.call("PATCH", path, new_state="failed")
