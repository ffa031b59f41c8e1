"""A MinIO with a bucket ``mlflow`` that a test may kill and restart, and whose bucket it may delete."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import boto3
import requests

from mlflow_servers import free_port

KEYS = ("minio-of-tests", "minio-of-tests-secret")
REGION = "eu-central-1"


class Store:
    """A running MinIO, with the same address and data after a restart.

    :param program: path of MinIO.
    :param folder: for its data.
    """

    def __init__(self, program: Path | str, folder: Path) -> None:
        self._address = f"127.0.0.1:{free_port()}"
        console = f"--console-address=127.0.0.1:{free_port()}"
        self._command = [program, "server", f"--address={self._address}", console]
        self._command += [f"--certs-dir={folder}", folder / "data"]
        names = ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_SITE_REGION")
        self._environment = dict(zip(names, (*KEYS, REGION), strict=True))
        self._log = folder / "minio.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://{self._address}"
        self.start()
        keys = {"aws_access_key_id": KEYS[0], "aws_secret_access_key": KEYS[1]}
        self._bucket = boto3.resource("s3", endpoint_url=self.url, region_name=REGION, **keys).Bucket(
            "mlflow"
        )
        self.create_bucket()

    def create_bucket(self) -> None:
        """Create the bucket, which must not exist."""
        self._bucket.create(CreateBucketConfiguration={"LocationConstraint": REGION})

    def lose_bucket(self) -> None:
        """Delete the bucket with its contents."""
        self._bucket.objects.delete()
        self._bucket.delete()

    def start(self) -> None:
        """Start MinIO if it is down, and wait until it responds."""
        if self._process:
            return
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, env={**os.environ, **self._environment}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 300
        while not self._is_ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.2)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/minio/health/ready", timeout=5).ok
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """Kill MinIO as `kill -9` does."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = None
