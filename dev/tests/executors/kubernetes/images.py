"""The images of the cluster: ours, and those of MLflow, Postgres and MinIO."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from pathlib import Path

from dev.tests.docker import build_images
from dev.tests.docker.engine import engine
from dev.tests.executors.kubernetes.cluster import PAUSE, Cluster
from local_stack.settings import ROOT

AIRFLOW = "registry.example.com/airflow-mlflow:1"  # as in airflow-values.yaml
POSTGRES = "docker.io/postgres:17.6"
[MLFLOW] = build_images.IMAGES["mlflow"]
[MINIO] = build_images.IMAGES["minio"]
TESTS = Path(__file__).parents[1]
DAGS = (TESTS / "dags", TESTS / "kubernetes" / "dags")  # those of the tests, beside the project's own


def bring(cluster: Cluster) -> None:
    """Build them with a Docker engine, or pull them, and take them over into the cluster.

    :raises MissingError: this machine has no Docker engine, and cannot have our own.
    """
    others = [MLFLOW, POSTGRES, MINIO, PAUSE]
    with engine() as docker:
        stand_ins = build_images.building(docker, "airflow", ("postgres", "mlflow", "pause"))
        with stand_ins if docker.is_ours else nullcontext():
            began = time.monotonic()
            docker("build", "--quiet", f"--file={ROOT / 'deploy' / 'Dockerfile'}", f"--tag={AIRFLOW}", ROOT)
            with_dags = [f"--file={TESTS / 'Dockerfile'}", f"--build-arg=IMAGE={AIRFLOW}", f"--tag={AIRFLOW}"]
            for dags in DAGS:
                docker("build", "--quiet", *with_dags, dags)
            print(f"Image of the project ({time.monotonic() - began:.0f} s)", flush=True)
        if not docker.is_ours:
            for image in others:
                docker("pull", "--quiet", image)
        began = time.monotonic()
        cluster.import_images(["docker", "save", AIRFLOW, *others], {**os.environ, **docker.environment})
        print(f"Images are in the cluster ({time.monotonic() - began:.0f} s)", flush=True)
        docker("image", "rm", AIRFLOW)
