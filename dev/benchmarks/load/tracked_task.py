"""A tracked task as Airflow would run it, with the provider's requests."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from mlflow_provider import task_run
from tries import Try

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer

EXPERIMENT = "Load"
FIRST_TRY = type("FirstTry", (), {"next_method": None, "task_reschedule_count": 0})


@contextmanager
def connected(server: MLflowServer, **extra: Any) -> Iterator[None]:
    """Point the connection ``mlflow_default`` to a server for a block."""
    connection = {"conn_type": "mlflow", "host": server.url, "extra": extra}
    variables = {
        "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps(connection),
        "AIRFLOW__MLFLOW__INSTANCE": "load",
        # Send everything through the server, as the project's workers do.
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    }
    with patch.dict(os.environ, variables):
        yield


@contextmanager
def tracked(run_id: str, *, nested: bool = False, **known: Any) -> Iterator[None]:
    """Track a block as a task of a DAG run; without ``known``, an unmapped task in its first try."""
    attempt = Try(run_id, **{"known": FIRST_TRY, **known})
    with task_run(context=attempt.context, experiment=EXPERIMENT, nested=nested):
        yield


def log() -> None:
    """Log what a typical training logs."""
    import mlflow

    mlflow.log_params({"alpha": 0.1, "max_depth": 4, "learning_rate": 0.05, "features": 30, "seed": 1})
    mlflow.log_metrics({"rmse": 31_106.7, "mae": 19_000.2, "r2": 0.85})
    mlflow.set_tag("model", "ridge")
