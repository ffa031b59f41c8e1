"""Calls per second of MLflow's REST API, by one caller, four, and sixteen at once.

All ask one server worker for the same experiment, in threads of one process, and take turns. Provider 1.1.0
opened a session for each call. One worker is soon the limit, whoever asks.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import requests

from dev.benchmarks.report import Budget, Table
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_servers import run_mlflow_server

CALLERS = (1, 4, 16)
ROUNDS = 3
SECONDS = 2
PATH = "experiments/get"
PARAMS = {"experiment_id": "0"}


def calls_per_second(call: Callable[[], object], callers: int) -> float:
    """Return how many calls are answered, with so many threads that call."""
    deadline = time.perf_counter() + SECONDS

    def keep_calling() -> int:
        done = 0
        while time.perf_counter() < deadline:
            call()
            done += 1
        return done

    with ThreadPoolExecutor(callers) as pool:
        counts = [pool.submit(keep_calling) for _ in range(callers)]
    return sum(count.result() for count in counts) / SECONDS


def ways(url: str) -> dict[str, Callable[[], object]]:
    """Return the ways to ask a server."""
    import mlflow

    hook, session, client = MLflowClientHook(), requests.Session(), mlflow.MlflowClient(url)
    address = f"{url}/api/2.0/mlflow/{PATH}"
    return {
        "MLflowClientHook": lambda: hook.call("GET", PATH, PARAMS),
        "requests.Session": lambda: session.get(address, params=PARAMS, timeout=60).json(),
        "mlflow.MlflowClient": lambda: client.get_experiment("0"),
        "a session for each call": lambda: requests.get(address, params=PARAMS, timeout=60).json(),
    }


def measure() -> Iterator[Table | Budget]:
    """Ask in each way, in turn."""
    table = Table(("calls per second", *(f"{callers} at once" for callers in CALLERS)))
    with TemporaryDirectory(prefix="benchmark-") as folder, run_mlflow_server(Path(folder)) as server:
        os.environ["AIRFLOW_CONN_MLFLOW_DEFAULT"] = json.dumps({"conn_type": "mlflow", "host": server.url})
        asked = ways(server.url)
        rates: dict[str, dict[int, list[float]]] = {
            way: {callers: [] for callers in CALLERS} for way in asked
        }
        for _ in range(ROUNDS):
            for callers in CALLERS:
                for way, call in asked.items():
                    rates[way][callers].append(calls_per_second(call, callers))
    for way, by_callers in rates.items():
        table.add(way, *(f"{median(by_callers[callers]):.0f}" for callers in CALLERS))
    yield table
