"""A DAG run of tracked tasks and its runs in MLflow; the DAGs are in dev/tests/executors/dags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import uuid4

from mlflow.artifacts import load_text

from dev.waiting import wait_until

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from dev.tests.executors.deployment import Deployment

PARENT = "mlflow.parentRunId"
Try = tuple[int, int]  # map index, try number
FIRST_TRIES = ((0, 1), (1, 1))  # of the DAG logs_until_stopped


class TrackedDagRun:
    """A DAG run whose mapped tasks, named like the DAG, have MLflow runs under one parent.

    :param mlflow: a client on this machine.
    """

    def __init__(self, deployment: Deployment, mlflow: MlflowClient, dag_id: str) -> None:
        self.deployment = deployment
        self.mlflow = mlflow
        self.dag_id = dag_id
        self._variable = f"stop_{uuid4().hex}"
        self.run_id = deployment.airflow.trigger(dag_id, variable=self._variable)

    def stop(self) -> None:
        """Stop the tasks."""
        self.deployment.airflow.create_or_replace("variables", [{"key": self._variable, "value": "stop"}])

    def wait_for_end(self) -> str:
        """Wait for the end of the DAG run, and return its state."""
        return wait_until(
            f"{self.dag_id} {self.run_id} has ended",
            lambda: self.deployment.airflow.dag_run(self.dag_id, self.run_id),
            lambda dag_run: dag_run["end_date"],
            seconds=900,
        )["state"]

    def worker(self, map_index: int) -> str:
        """Return the name of the worker of a task's newest try."""
        return self.deployment.worker_of(self.dag_id, self.run_id, self.dag_id, map_index)

    def runs(self) -> list[Run]:
        """Return all its runs in MLflow, including the parent."""
        if not (experiment := self.mlflow.get_experiment_by_name(self.dag_id)):
            return []
        of_this = f"tags.`airflow.run_id` = '{self.run_id}'"
        return list(self.mlflow.search_runs([experiment.experiment_id], of_this, max_results=1000))

    def tries(self) -> dict[Try, Run]:
        """Return the run of each try of each task.

        :raises AssertionError: a try has two.
        """
        children = [run for run in self.runs() if PARENT in run.data.tags]
        tries = {_try(run): run for run in children}
        assert len(tries) == len(children), sorted(map(_try, children))
        return tries

    def steps(self) -> dict[Try, list[float]]:
        """Return the steps that each try has logged so far, as far as MLflow has acknowledged them."""
        return {
            key: sorted(metric.value for metric in self.mlflow.get_metric_history(run.info.run_id, "step"))
            for key, run in self.tries().items()
        }

    def wait_until_logging(self, *expected: Try) -> dict[Try, list[float]]:
        """Wait until each of these tries logs more than now, and return the steps of all."""
        counts = {key: len(values) for key, values in self.steps().items()}

        def all_log(seen: Mapping[Try, list[float]]) -> bool:
            return set(expected) <= seen.keys() and all(
                len(seen[key]) > counts.get(key, 0) + 1 for key in expected
            )

        return wait_until(f"{expected} log", self.steps, all_log, seconds=900)

    def go_on(self) -> None:
        """Check that both tasks continue in their first tries and succeed."""
        self.wait_until_logging(*FIRST_TRIES)
        self.finish(dict.fromkeys(FIRST_TRIES, "FINISHED"))

    def finish(self, expected: Mapping[Try, str], before: Mapping[Try, list[float]] | None = None) -> None:
        """Stop the tasks, and check that there are exactly these runs and nothing is lost.

        :param expected: the status of each try's run.
        :param before: acknowledged steps of tries that were killed before they could count them.
        """
        self.stop()
        assert self.wait_for_end() == "success"
        wait_until(
            "no run is open",
            lambda: [run.info.status for run in self.runs()],
            lambda statuses: "RUNNING" not in statuses,
        )
        tries = self.tries()
        assert {key: run.info.status for key, run in tries.items()} == expected
        [parent] = [run for run in self.runs() if PARENT not in run.data.tags]
        assert parent.info.status == "FINISHED"
        assert {run.data.tags[PARENT] for run in tries.values()} == {parent.info.run_id}
        steps = self.steps()
        for key, run in tries.items():
            assert run.data.params == {"number": str(key[0])}
            assert steps[key] == list(range(len(steps[key]))), key
            if run.info.status == "FINISHED":
                assert load_text(f"runs:/{run.info.run_id}/steps.txt") == str(len(steps[key]))
        for key, values in (before or {}).items():
            assert steps[key][: len(values)] == values


def _try(run: Run) -> Try:
    return int(run.data.tags["airflow.map_index"]), int(run.data.tags["airflow.try_number"])
