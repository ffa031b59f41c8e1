"""A task that logs to its run until it is told to end; its DAG is in dev/tests/stack/dags/task_mlflow.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dev.tests.helpers.clones import wait_until

if TYPE_CHECKING:
    from dev.tests.helpers.embedded_stack import Stack


class LoggingTask:
    """A DAG run whose task logs to its MLflow run until it is told to end."""

    dag_id = "logs_until_told"

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.run_id = stack.airflow.trigger(self.dag_id)

    def tell(self) -> None:
        told = self.stack.clone.folder / "dags" / "task_mlflow.told" / self.run_id
        told.parent.mkdir(exist_ok=True)
        told.touch()

    def wait_for_end(self) -> dict[str, Any]:
        return self.stack.wait_for_end(self.dag_id, self.run_id)

    def statuses(self) -> list[str]:
        return self.stack.mlflow_statuses(self.dag_id, self.run_id)

    def wait_for_run(self, number: int = 1) -> None:
        """Wait until that many MLflow runs are there, and the newest of them is running."""
        wait_until(
            f"its MLflow run number {number} is running",
            self.statuses,
            lambda statuses: len(statuses) == number and statuses[-1] == "RUNNING",
        )

    def clear(self) -> None:
        path = f"dags/{self.dag_id}/clearTaskInstances"
        self.stack.ask("POST", path, dry_run=False, dag_run_id=self.run_id, only_failed=False)

    def mark_failed(self) -> None:
        path = f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.dag_id}"
        self.stack.ask("PATCH", path, new_state="failed")
