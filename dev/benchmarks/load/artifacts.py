"""Artifacts, uploaded through MLflow's server and directly.

Each method in turn uploads the same files to one MinIO, and the median of three counts.
Memory is the peak of a process of the server during the upload.
If no ``minio`` is installed, the test uses one that was compiled without optimization.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import boto3

from dev.benchmarks.load.deployment import run_deployment
from dev.benchmarks.load.tracked_task import connected
from dev.benchmarks.report import Table
from dev.tests.helpers.memory import peak_of, reset_peak_of
from dev.tests.helpers.object_store import KEYS, REGION
from mlflow_provider.hooks.client import MLflowClientHook

if TYPE_CHECKING:
    from dev.tests.helpers.object_store import Store
    from mlflow_servers import MLflowServer

STORE_CONN_ID = "minio_default"
ROUNDS = 3
FILES = ((100, 1), (1, 500))  # number of files, and size of each in MB


def measure() -> Iterator[Table]:
    """Upload with each method in turn."""
    measured: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with run_deployment() as deployment:
        deployment.create_database("artifacts")
        folders = [write_files(deployment.folder, *files) for files in FILES]
        with deployment.mlflow("artifacts") as server, connection_to(deployment.store) as bucket:
            methods = {
                "boto3": partial(upload_with_boto3, bucket),
                "MLflow, directly to S3": partial(
                    upload_with_mlflow, server, "s3://mlflow/direct", artifact_conn_id=STORE_CONN_ID
                ),
                "MLflow, through the server": partial(upload_with_mlflow, server, None),
            }
            for index in range(ROUNDS + 1):
                for which, folder in enumerate(folders):
                    for method, upload in methods.items():
                        reset_peak_of(server)
                        start = time.perf_counter()
                        upload(folder)
                        seconds = time.perf_counter() - start
                        bucket.objects.delete()
                        if index:  # the first round imports mlflow
                            figures = math.prod(FILES[which]) / seconds, peak_of(server) / 1e6
                            measured.setdefault((method, which), []).append(figures)
                            print(f"{folder.name}, {method}: {figures[0]:.0f} MB/s", flush=True)
    names = [name for folder in folders for name in (f"{folder.name} (MB/s)", "server's memory (MB)")]
    table = Table(("", *names))
    for method in methods:
        cells = [
            median(values)
            for which in range(len(FILES))
            for values in zip(*measured[method, which], strict=True)
        ]
        table.add(method, *(f"{cell:.0f}" for cell in cells))
    yield table


def write_files(folder: Path, count: int, size: int) -> Path:
    """Write files of the given size in MB into a new subfolder, and return it."""
    folder /= f"{count} x {size} MB"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.bin").write_bytes(os.urandom(1_000_000) * size)
    return folder


@contextmanager
def connection_to(store: Store) -> Iterator[Any]:
    """Set a connection to the store for a block, and yield its bucket."""
    endpoint = {"endpoint_url": store.url, "region_name": REGION}
    connection = {"conn_type": "aws", "login": KEYS[0], "password": KEYS[1], "extra": endpoint}
    client = boto3.resource("s3", aws_access_key_id=KEYS[0], aws_secret_access_key=KEYS[1], **endpoint)
    with patch.dict(os.environ, {f"AIRFLOW_CONN_{STORE_CONN_ID.upper()}": json.dumps(connection)}):
        yield client.Bucket("mlflow")


def upload_with_boto3(bucket: Any, folder: Path) -> None:
    """Upload the files one by one with boto3, which MLflow also uses."""
    for file in folder.iterdir():
        bucket.upload_file(str(file), file.name)


def upload_with_mlflow(server: MLflowServer, location: str | None, folder: Path, **extra: str) -> None:
    """Log the files as artifacts of a new run.

    :param location: artifact location of the experiment; the server's default if None.
    :param extra: extra fields of the connection.
    """
    with connected(server, **extra):
        hook = MLflowClientHook()
        experiment_id = hook.get_or_create_experiment(f"Artifacts in {location}", location)
        with hook.tracking() as client:
            run = client.create_run(experiment_id)
            client.log_artifacts(run.info.run_id, str(folder))
