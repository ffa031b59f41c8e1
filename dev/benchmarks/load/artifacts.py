"""Artifacts, through MLflow's server and directly.

Each method in turn writes the same file to one MinIO and reads it again; the median of several rounds counts.
With presigned URLs, the server tells MLflow's client where to send the parts of a file
(``MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD`` and ``..._DOWNLOAD``, for files of the size that
``MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE`` and ``..._DOWNLOAD_...`` name).
Memory is the peak of a process of the server.
If no ``minio`` is installed, the test uses one that was compiled without optimization.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
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
ROUNDS = {10: 5, 200: 3, 2000: 1}  # by size of the file in MB
PRESIGNED = {
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
    "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "5000000",
    "MLFLOW_MULTIPART_DOWNLOAD_MINIMUM_FILE_SIZE": "5000000",
}


def measure() -> Iterator[Table]:
    """Write and read with each method in turn."""
    with run_deployment() as deployment:
        deployment.create_database("artifacts")
        with deployment.mlflow("artifacts") as server, connection_to(deployment.store) as bucket:
            methods = {
                "boto3 alone": partial(use_boto3, bucket),
                "MLflow, directly to S3": partial(
                    use_mlflow, server, "s3://mlflow/direct", {}, artifact_conn_id=STORE_CONN_ID
                ),
                "MLflow, presigned URLs": partial(use_mlflow, server, None, PRESIGNED),
                "MLflow, through the server": partial(use_mlflow, server, None, {}),
            }
            for method in methods.values():  # imports what the method needs
                method(write_file(deployment.folder, 1))
            for size, rounds in ROUNDS.items():
                file = write_file(deployment.folder, size)
                measured: dict[str, list[tuple[float, float, float]]] = {method: [] for method in methods}
                for _ in range(rounds):
                    for method, use in methods.items():
                        reset_peak_of(server)
                        seconds = use(file)
                        bucket.objects.delete()
                        measured[method].append((*seconds, peak_of(server) / 1e6))
                        print(
                            f"{size} MB, {method}: {seconds[0]:.1f} s up, {seconds[1]:.1f} s down", flush=True
                        )
                file.unlink()
                table = Table((f"{size:,} MB", "up (s)", "down (s)", "server's memory (MB)"))
                for method, figures in measured.items():
                    up, down, memory = map(median, zip(*figures, strict=True))
                    table.add(method, f"{up:.2f}", f"{down:.2f}", f"{memory:.0f}")
                yield table


def write_file(folder: Path, size: int) -> Path:
    """Write a file of a size in MB, and return its path."""
    file = folder / f"{size} MB.bin"
    with file.open("wb") as stream:
        for _ in range(size):
            stream.write(os.urandom(1_000_000))
    return file


@contextmanager
def connection_to(store: Store) -> Iterator[Any]:
    """Set a connection to the store for a block, and yield its bucket."""
    endpoint = {"endpoint_url": store.url, "region_name": REGION}
    connection = {"conn_type": "aws", "login": KEYS[0], "password": KEYS[1], "extra": endpoint}
    client = boto3.resource("s3", aws_access_key_id=KEYS[0], aws_secret_access_key=KEYS[1], **endpoint)
    with patch.dict(os.environ, {f"AIRFLOW_CONN_{STORE_CONN_ID.upper()}": json.dumps(connection)}):
        yield client.Bucket("mlflow")


def use_boto3(bucket: Any, file: Path) -> tuple[float, float]:
    """Write and read a file with boto3, which MLflow also uses; return the seconds of each."""
    with TemporaryDirectory(dir=file.parent) as folder:
        start = time.perf_counter()
        bucket.upload_file(str(file), file.name)
        middle = time.perf_counter()
        bucket.download_file(file.name, str(Path(folder, file.name)))
        return middle - start, time.perf_counter() - middle


def use_mlflow(
    server: MLflowServer, location: str | None, variables: Mapping[str, str], file: Path, **extra: str
) -> tuple[float, float]:
    """Log the file as an artifact of a new run and read it; return the seconds of each.

    :param location: artifact location of the experiment; the server's default if None.
    :param variables: settings of MLflow's client.
    :param extra: extra fields of the connection.
    """
    with connected(server, **extra), patch.dict(os.environ, variables):
        hook = MLflowClientHook()
        experiment_id = hook.get_or_create_experiment(f"Artifacts in {location}", location)
        with hook.tracking() as client, TemporaryDirectory(dir=file.parent) as folder:
            run_id = client.create_run(experiment_id).info.run_id
            start = time.perf_counter()
            client.log_artifact(run_id, str(file))
            middle = time.perf_counter()
            client.download_artifacts(run_id, file.name, folder)
            return middle - start, time.perf_counter() - middle
