"""Tracked tasks per second, by servers and callers.

Callers, servers and Postgres 18 share the machine.
Each caller is a thread with its own connection.
It runs one tracked task after another by sending the recorded requests of such a task.
These are three requests of the provider, and three that log parameters, metrics and a tag.
p50 and p99 are milliseconds per request; CPU is the number of cores in use.

The second table is calculated from the row of one server with 16 callers.
It assumes that servers and Postgres scale linearly.
Each server has one half-busy worker and its own core.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import psutil
import requests

from dev.benchmarks.load.deployment import Deployment, run_deployment
from dev.benchmarks.load.tracked_task import connected, log, tracked
from dev.benchmarks.report import Table
from dev.benchmarks.stack import megabytes

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer

SECONDS = 20
WARM_UP_SECONDS = 3
CALLERS = (1, 16, 64)
# The number of workers of each server.
SERVERS = {"1 server": (1,), "1 server, 2 workers": (2,), "1 server, 4 workers": (4,), "2 servers": (1, 1)}
CPU = ("MLflow (CPU)", "Postgres (CPU)", "callers (CPU)")
COLUMNS = ("servers", "callers", "tasks/s", "requests/s", "p50", "p99", *CPU, "MLflow (MB)")
TASKS_PER_MINUTE = (60, 300, 1_000, 3_000, 10_000)
SHARE = 0.5  # of a worker's capacity, so that bursts do not queue


class Load(NamedTuple):
    """Measured figures: rates per second, milliseconds, cores in use, MB."""

    tasks: float
    requests: float
    p50: float
    p99: float
    mlflow: float
    postgres: float
    callers: float
    memory: float


def measure() -> Iterator[Table]:
    """Put load on each number of servers."""
    table = Table(COLUMNS)
    loads: dict[tuple[str, int], Load] = {}
    with run_deployment() as deployment:
        deployment.create_database("load")
        for name, workers in SERVERS.items():
            with ExitStack() as stack:
                servers = [stack.enter_context(deployment.mlflow("load", workers=each)) for each in workers]
                task = RecordedTask(servers[0])
                ask(servers, task, max(CALLERS), WARM_UP_SECONDS)
                for callers in CALLERS:
                    load = loads[name, callers] = measure_load(deployment, servers, task, callers)
                    table.add(
                        name, str(callers), *(f"{value:,.{0 if value >= 10 else 2}f}" for value in load)
                    )
                    print(*table.rows[-1], sep="  ", flush=True)
    yield table
    yield calculate(loads["1 server", 16])


def calculate(measured: Load) -> Table:
    """Return the number of servers needed, if all perform like the measured one."""
    table = Table(("tasks per minute", "servers, and cores", "memory (MB)", "cores of Postgres"))
    for tasks in TASKS_PER_MINUTE:
        busy = tasks / 60 / measured.tasks
        servers = math.ceil(busy / SHARE)
        memory, postgres = servers * measured.memory, busy * measured.postgres
        table.add(f"{tasks:,}", str(servers), f"{memory:,.0f}", f"{postgres:.1f}")
    return table


def measure_load(
    deployment: Deployment, servers: list[MLflowServer], task: RecordedTask, callers: int
) -> Load:
    """Put load on the servers with this number of callers."""
    mlflow = [server.pid for server in servers]

    def used() -> tuple[float, ...]:
        return cpu_seconds(mlflow), cpu_seconds([deployment.postgres_pid]), time.process_time()

    start = used()
    latencies = ask(servers, task, callers, SECONDS)
    cores = [(stop - begin) / SECONDS for stop, begin in zip(used(), start, strict=True)]
    rate, memory = len(latencies) / SECONDS, megabytes(family(mlflow))
    p50, p99 = median(latencies) * 1000, quantiles(latencies, n=100)[-1] * 1000
    return Load(rate / len(task.requests), rate, p50, p99, *cores, memory)


class RecordedTask:
    """The requests of a tracked task, recorded once and then repeated.

    :param server: the server for the recording.
    """

    def __init__(self, server: MLflowServer) -> None:
        self.requests: list[tuple[str, str, str]] = []  # method, path and body
        self.run_id = ""
        send = requests.Session.send

        def record(session: requests.Session, request: Any, **options: Any) -> requests.Response:
            answer = send(session, request, **options)
            self.requests.append((request.method, request.path_url, (request.body or b"").decode()))
            if request.path_url.endswith("/runs/create"):
                self.run_id = answer.json()["run"]["info"]["run_id"]
            return answer

        with connected(server), patch.object(requests.Session, "send", record):
            for run_id in ("first", "load"):  # the first creates the experiment
                self.requests.clear()
                with tracked(run_id):
                    log()

    def send(self, address: str) -> Iterator[float]:
        """Repeat the requests, and yield the seconds of each."""
        connection = HTTPConnection(address, timeout=120)
        run_id = self.run_id
        for method, path, body in self.requests:
            began = time.perf_counter()
            content = body.replace(self.run_id, run_id)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answered = answer.read()
            yield time.perf_counter() - began
            if answer.status != requests.codes.ok:
                raise RuntimeError(f"{method} {path}: {answer.status} {answered.decode()}")
            if path.endswith("/runs/create"):
                run_id = json.loads(answered)["run"]["info"]["run_id"]
        connection.close()


def ask(servers: list[MLflowServer], task: RecordedTask, callers: int, seconds: float) -> list[float]:
    """Let callers run tasks for some time, distributed over the servers; return each request's seconds."""
    deadline = time.perf_counter() + seconds

    def call(number: int) -> list[float]:
        latencies: list[float] = []
        address = servers[number % len(servers)].url.removeprefix("http://")
        while True:
            for latency in task.send(address):
                if time.perf_counter() > deadline:
                    return latencies
                latencies.append(latency)

    with ThreadPoolExecutor(callers) as pool:
        return [latency for found in pool.map(call, range(callers)) for latency in found]


def family(pids: Iterable[int]) -> list[psutil.Process]:
    """Return processes and their descendants."""
    parents = [psutil.Process(pid) for pid in pids]
    return parents + [child for parent in parents for child in parent.children(recursive=True)]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU seconds of processes and their descendants, including ended ones."""
    return sum(sum(process.cpu_times()[:4]) for process in family(pids))
