"""The overhead of tracking a task, with and without the setting ``[mlflow] preload``.

Like the tasks of LocalExecutor, the tasks are forked from a process that has imported Airflow's SDK.
With preload, this process has also imported the modules in the ``airflow.cfg`` of the stack without Docker.
Seconds are CPU time of the task's process, because a busy machine changes this least.
All kinds of tasks run in turn against one MLflow server, and the median counts.
Memory is the proportional set size (PSS) of a task at its end.

Requests are those that reach the server, including the one that logs the metric; the parent of a nested task
already exists.
The scheduler is not included, because it does the same for all tasks.
"""

from __future__ import annotations

import configparser
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from dev.benchmarks.report import Budget, Table
from mlflow_provider import task_run
from mlflow_proxy import run_proxy
from mlflow_servers import run_mlflow_server
from tries import Try

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 9


def plain(index: int) -> None:
    """Compute without logging."""
    _ = 1 / (index + 1)


def by_hand(index: int) -> None:
    """Log as code without the provider does."""
    import mlflow

    mlflow.set_experiment("By hand")
    with mlflow.start_run(run_name=f"train[{index}]"):
        mlflow.log_metric("rmse", 1 / (index + 1))


def tracked(index: int, *, nested: bool = False) -> None:
    """Log the same in the task's run."""
    import mlflow

    first_try = type("FirstTry", (), {"next_method": None, "task_reschedule_count": 0})
    attempt = Try("manual__2026-01-31", map_index=index, known=first_try)
    with task_run(context=attempt.context, experiment="Tracked", nested=nested):
        mlflow.log_metric("rmse", 1 / (index + 1))


def tracked_nested(index: int) -> None:
    """Log the same under the parent run of the DAG run."""
    tracked(index, nested=True)


KINDS: tuple[Callable[[int], None], ...] = (plain, by_hand, tracked, tracked_nested)


def fork_tasks(modules: str, requests: Connection) -> None:
    """Fork a task for each kind and index that is received; send its CPU seconds and its MB."""
    import airflow.sdk.execution_time.supervisor
    import airflow.sdk.execution_time.task_runner  # noqa: F401

    from mlflow_provider.listeners.preload import preload

    os.environ["AIRFLOW__MLFLOW__PRELOAD"] = modules
    preload()
    with suppress(EOFError):
        while True:
            kind, index = requests.recv()
            reader, writer = os.pipe()
            if not (pid := os.fork()):
                code = 1
                try:
                    KINDS[kind](index)
                    os.write(writer, str(psutil.Process().memory_full_info().pss / 1e6).encode())
                    code = 0
                finally:
                    os._exit(code)
            _, status, used = os.wait4(pid, 0)
            if status:
                raise RuntimeError(f"{KINDS[kind].__name__} failed.")
            megabytes = float(os.read(reader, 100))
            os.close(reader)
            os.close(writer)
            requests.send((used.ru_utime + used.ru_stime, megabytes))


def measure() -> Iterator[Table | Budget]:
    """Run each kind of task, in turn."""
    config = configparser.ConfigParser()
    config.read(ROOT / "local_stack" / "airflow.cfg")
    fork = multiprocessing.get_context("fork")
    measured: dict[tuple[int, int], list[tuple[float, float]]] = {}
    preload = config["mlflow"]["preload"]
    with (
        TemporaryDirectory(prefix="benchmark-") as folder,
        run_mlflow_server(Path(folder)) as server,
        run_proxy(server) as proxy,
    ):
        parents = []
        for modules, url in (("", server.url), (preload, server.url), (preload, proxy.url)):
            os.environ |= {
                "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "mlflow", "host": url}),
                "MLFLOW_TRACKING_URI": url,
                "AIRFLOW__MLFLOW__INSTANCE": "benchmark",
            }
            here, there = fork.Pipe()
            fork.Process(target=fork_tasks, args=(modules, there), daemon=True).start()
            parents.append(here)
        *parents, counted = parents
        for index in range(ROUNDS + 1):
            for kind in range(len(KINDS)):
                for which, parent in enumerate(parents):
                    parent.send((kind, index))
                    answer = parent.recv()
                    if index:  # the first round writes compiled files
                        measured.setdefault((which, kind), []).append(answer)
        requests = []
        for kind in range(len(KINDS)):
            proxy.requests.clear()
            counted.send((kind, ROUNDS + 1))
            counted.recv()
            requests.append(len(proxy.requests))

    seconds = {key: median(cpu for cpu, _ in values) for key, values in measured.items()}
    memory = {key: median(pss for _, pss in values) for key, values in measured.items()}
    names = ("task", "CPU (s)", "with preload (s)", "above plain (s)", "PSS (MB)", "with preload (MB)")
    table = Table((*names, "requests"))
    above = {kind: seconds[1, kind] - seconds[1, 0] for kind in range(len(KINDS))}
    for kind, function in enumerate(KINDS):
        table.add(
            function.__name__.replace("_", " "),
            f"{seconds[0, kind]:.2f}",
            f"{seconds[1, kind]:.2f}",
            f"{above[kind]:.2f}",
            f"{memory[0, kind]:.0f}",
            f"{memory[1, kind]:.0f}",
            str(requests[kind]),
        )
    yield table
    yield Budget("tracked task above a plain one (s of CPU)", "<= 0.3", above[KINDS.index(tracked)])
    for function, limit in ((tracked, "<= 5"), (tracked_nested, "<= 7")):
        what = f"requests of a {function.__name__.replace('_', ', ')} task besides the user's own"
        yield Budget(what, limit, requests[KINDS.index(function)] - 1)
