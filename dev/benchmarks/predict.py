"""The overhead of the predict operator.

In the task's process, ``mlflow.pyfunc`` and the operator in turn download the model and predict 1,000 rows.
The median of their ratios counts, because a busy machine changes it least.
In a virtualenv, each run is a new process on a worker with empty package caches.
Of the runs that reuse the virtualenv, the best of three counts.

The budget for virtualenvs applies to pip, which provider 1.1.0 used for each run.
With uv, even the first run is short.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from dev.benchmarks.report import Budget, Table
from local_stack.install import fetch_uv
from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.operators.pyfunc import ModelLoadAndPredictOperator
from mlflow_servers import run_mlflow_server

PAIRS = 40
ROWS = 1000
OTHER_VERSION = "scikit-learn==1.7.2"

# A task: Airflow is imported, MLflow is not.
TASK = """
import sys, time
from mlflow_provider.operators.pyfunc import ModelLoadAndPredictOperator
operator = ModelLoadAndPredictOperator(
    task_id="predict", model_uri=sys.argv[1], data=[[1.0, 2.0]], venv_cache_path=sys.argv[2]
)
began = time.perf_counter()
operator.execute({})
print(time.perf_counter() - began)
"""


def log_models() -> tuple[str, str]:
    """Return the URIs of a model that can run in this process and of one that needs a virtualenv."""
    import mlflow
    import numpy as np
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(np.eye(2), [1.0, 2.0])
    mlflow.set_experiment("Benchmark")
    uris = [
        mlflow.sklearn.log_model(model, name="model", pip_requirements=[requirement]).model_uri
        for requirement in ("scikit-learn", OTHER_VERSION)
    ]
    return uris[0], uris[1]


def in_process(model_uri: str) -> tuple[float, float, float]:
    """Return the seconds of ``mlflow.pyfunc`` and of the operator, and their ratio."""
    import mlflow
    import numpy as np

    data = np.ones((ROWS, 2))
    operator = ModelLoadAndPredictOperator(task_id="predict", model_uri=model_uri, data=data)

    def predict_directly() -> None:
        with operator.hook.tracking():
            mlflow.pyfunc.load_model(model_uri).predict(data)

    def predict_by_operator() -> None:
        operator.execute({})

    direct, by_operator = [], []
    for _ in range(PAIRS):
        direct.append(seconds_of(predict_directly))
        by_operator.append(seconds_of(predict_by_operator))
    ratio = median(numerator / base for numerator, base in zip(by_operator, direct, strict=True))
    return median(direct), median(by_operator), ratio


def seconds_of(function: Callable[[], None]) -> float:
    """Return the duration of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def in_virtualenv(model_uri: str, uv: str | None) -> tuple[float, float]:
    """Return the seconds of the run that builds the virtualenv, and of a run that reuses it."""
    with TemporaryDirectory(prefix="benchmark-") as folder:
        programs = Path(folder, "bin")
        programs.mkdir()
        if uv:
            (programs / "uv").symlink_to(uv)
        environment = {
            **os.environ,
            "PATH": f"{programs}:/usr/bin:/bin",
            "PIP_NO_CACHE_DIR": "1",
            "UV_NO_CACHE": "1",
        }
        command = [sys.executable, "-c", TASK, model_uri, f"{folder}/cache"]
        runs = [
            float(subprocess.check_output(command, env=environment, text=True).splitlines()[-1])
            for _ in range(4)
        ]
    return runs[0], min(runs[1:])


def measure() -> Iterator[Table | Budget]:
    """Predict in the process and in virtualenvs."""
    with TemporaryDirectory(prefix="benchmark-") as folder, run_mlflow_server(Path(folder)) as server:
        os.environ["AIRFLOW_CONN_MLFLOW_DEFAULT"] = json.dumps({"conn_type": "mlflow", "host": server.url})
        with MLflowBaseHook().tracking():
            here, elsewhere = log_models()

        direct, operator, ratio = in_process(here)
        table = Table(("in the process", "mlflow.pyfunc (s)", "operator (s)", "ratio"))
        table.add(f"{ROWS:,} rows", f"{direct:.3f}", f"{operator:.3f}", f"{ratio:.2f}")
        yield table
        yield Budget("predict in the process / with mlflow.pyfunc", "<= 1.2", ratio)

        table = Table(("in a virtualenv", "first run (s)", "second run (s)", "ratio"))
        for installer, uv in (("pip", None), ("uv", str(fetch_uv()))):
            first, second = in_virtualenv(elsewhere, uv)
            table.add(installer, f"{first:.1f}", f"{second:.1f}", f"{first / second:.1f}")
            if installer == "pip":
                yield Budget("predict in a virtualenv, first run / second", ">= 10", first / second)
        yield table
