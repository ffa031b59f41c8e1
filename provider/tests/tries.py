"""The context that Airflow passes to a task; the tests of the stack use a real scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_provider import task_run

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass
class Try:
    """A try of a task instance; by default the first try of a task with two retries."""

    run_id: str
    task_id: str = "train"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 2
    clear_number: int = 0
    running: int = 1  # number of running tasks of the DAG run, including this one
    known: Any = None  # other information of Airflow's server about the task instance
    xcoms: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> Any:
        ti = SimpleNamespace(
            dag_id="housing",
            run_id=self.run_id,
            task_id=self.task_id,
            map_index=self.map_index,
            try_number=self.try_number,
            max_tries=self.max_tries,
            id=f"{self.run_id}-{self.task_id}-{self.map_index}-{self.try_number}",
            _ti_context_from_server=self.known,
            get_ti_count=lambda **_: self.running,
            log_url=f"http://localhost:8080/dags/housing/runs/{self.run_id}/tasks/{self.task_id}",
            xcom_push=lambda key, value: self.xcoms.update({key: value}),
            task=SimpleNamespace(
                owner="ada", operator_extra_links=(), execution_timeout=timedelta(seconds=90)
            ),
        )
        dag_run = SimpleNamespace(
            clear_number=self.clear_number, logical_date=datetime(2026, 1, 31, tzinfo=timezone.utc)
        )
        return {"ti": ti, "dag_run": dag_run, "task": ti.task}


def fail(attempt: Try, error: BaseException, **arguments: Any) -> None:
    with pytest.raises(type(error)), task_run(context=attempt.context, **arguments):
        raise error


def status_of(runs: list[Run]) -> list[str]:
    return [run.info.status for run in runs]
