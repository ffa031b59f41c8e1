"""What grows with the number of runs.

Two servers run in turn, each with its own database: one has an experiment of 100 runs, the other of 100,000.
The runs are copies of one tracked DAG run with 19 tasks and their parent run.
Then the larger database gets the index that [scale.md](scale.md) recommends.
The figures are medians.
The pages in Airflow and ``close_open_runs`` time out after five seconds, which counts as 5,000.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from dev.benchmarks.load.deployment import Deployment, run_deployment
from dev.benchmarks.load.tracked_task import EXPERIMENT, connected, log, tracked
from dev.benchmarks.report import Table
from dev.tests.helpers.documentation import code
from mlflow_provider import close_open_runs
from mlflow_provider.exceptions import MLflowUnreachableError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.plugins import pages

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer

RUNS = (100, 100_000)
TASKS = 19  # of the DAG run that is copied; with their parent, 20 runs
ROUNDS = 15
INDEX = code("docs/explain/scale.md", "What grows", "sql")

# The differences between a run and its k-th copy, which belongs to an older DAG run, as JSON for Postgres.
COPY_OF = "'run_uuid', md5(run_uuid || k)"
COPIES = {
    "runs": f"{COPY_OF}, 'start_time', start_time - k * 60000, 'end_time', end_time - k * 60000",
    "tags": f"{COPY_OF}, 'value', CASE key WHEN 'mlflow.parentRunId' THEN md5(value || k) "
    "ELSE replace(value, 'copied', 'copy_' || k) END",
    "params": COPY_OF,
    "metrics": COPY_OF,
    "latest_metrics": COPY_OF,
}


def fill(deployment: Deployment, database: str, number: int) -> None:
    """Fill a database with runs: track one DAG run and copy its rows in Postgres."""
    for index in range(TASKS):
        with tracked("copied", nested=True, map_index=index):
            log()
    templates = "".join(f"CREATE TEMP TABLE template_{table} AS TABLE {table};\n" for table in COPIES)
    inserts = "".join(
        f"INSERT INTO {table} SELECT copy.* FROM template_{table} AS template,"  # noqa: S608
        f" jsonb_populate_record(template, jsonb_build_object({changed})) AS copy;\n"
        for table, changed in COPIES.items()
    )
    copies = number // (TASKS + 1) - 1
    # The oldest first, in the order of real runs.
    loop = f"DO $$ BEGIN FOR k IN REVERSE {copies}..1 LOOP\n{inserts}END LOOP; END $$;\n"
    deployment.sql(database, f"SET session_replication_role = replica;\n{templates}{loop}ANALYZE;\n")


def start(run_id: str, **task: Any) -> float:
    """Return the seconds until a task's run has started."""
    began = time.perf_counter()
    with tracked(run_id, **task):
        return time.perf_counter() - began


def end(run_id: str, **task: Any) -> float:
    """Return the seconds for ending a task's run."""
    with tracked(run_id, **task):
        began = time.perf_counter()
    return time.perf_counter() - began


def seconds_of(call: Callable[..., object], *arguments: Any) -> float:
    """Return the duration of a call in seconds, even if it times out."""
    began = time.perf_counter()
    with suppress(MLflowUnreachableError):
        call(*arguments)
    return time.perf_counter() - began


def run_table() -> None:
    """Send the query of MLflow's experiment page."""
    hook = MLflowClientHook()
    experiments = [hook.get_or_create_experiment(EXPERIMENT)]
    order = ["attributes.start_time DESC"]
    hook.call("POST", "runs/search", {"experiment_ids": experiments, "max_results": 100, "order_by": order})


# Each takes the ID of a DAG run; they run in this order.
STEPS: dict[str, Callable[[str], float]] = {
    "start of a task": start,
    "start of its second try": lambda run_id: start(run_id, try_number=2),
    "start under a parent run, which is created": lambda run_id: start(f"{run_id}-nested", nested=True),
    "start under an existing parent run": lambda run_id: start(f"{run_id}-nested", nested=True, map_index=1),
    "end under a parent run": lambda run_id: end(f"{run_id}-nested", nested=True, map_index=2),
    "`close_open_runs`": lambda run_id: seconds_of(
        close_open_runs, {"dag": SimpleNamespace(dag_id="housing"), "run_id": run_id}
    ),
    "Airflow's page of the newest runs": lambda _: seconds_of(pages.newest_runs, None),
    "Airflow's page of a DAG run": lambda _: seconds_of(pages.runs_of_dag_run, "housing", "copied"),
    "MLflow's table of runs": lambda _: seconds_of(run_table),
}


def measure() -> Iterator[Table]:
    """Fill the databases, run each step on both, and again on the larger one with the index."""
    may_read = SimpleNamespace(get_authorized_dag_ids=lambda **_: {"housing"})
    with ExitStack() as stack:
        deployment = stack.enter_context(run_deployment())
        stack.enter_context(patch.object(pages, "get_auth_manager", lambda: may_read))
        servers = {}
        for number in RUNS:
            database = f"runs_{number}"
            deployment.create_database(database)
            servers[f"{number:,} runs"] = stack.enter_context(deployment.mlflow(database))
            with connected(servers[f"{number:,} runs"]):
                print(
                    f"{number:,} runs in {seconds_of(fill, deployment, database, number):.0f} s", flush=True
                )
        columns = measure_steps(servers)
        deployment.sql(database, INDEX)
        columns |= measure_steps({"with the index": servers[f"{number:,} runs"]})
    table = Table(("milliseconds", *columns))
    for name in STEPS:
        table.add(name, *(f"{seconds[name] * 1000:,.0f}" for seconds in columns.values()))
    yield table


def measure_steps(servers: dict[str, MLflowServer]) -> dict[str, dict[str, float]]:
    """Run each step on each server in turn; return the median seconds by server and step."""
    seconds: dict[str, dict[str, list[float]]] = {column: {name: [] for name in STEPS} for column in servers}
    for index in range(ROUNDS + 1):
        for name, step in STEPS.items():
            for column, server in servers.items():
                with connected(server):
                    took = step(f"{column} {index}")
                if index:  # the first round imports modules and fills caches
                    seconds[column][name].append(took)
    return {
        column: {name: median(values) for name, values in steps.items()} for column, steps in seconds.items()
    }
