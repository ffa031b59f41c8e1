"""The images of the cluster. ``python -m dev.cluster.images`` builds the project's own.

A cluster with a kubeconfig of its own pulls the other images; its owner loads the project's into it.
"""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from dev.docker import build_images
from dev.docker.engine import Docker, engine
from local_stack.settings import ROOT

if TYPE_CHECKING:
    from dev.cluster.node import Node

AIRFLOW = "registry.example.com/airflow-mlflow:1"  # as in airflow-values.yaml
PAUSE = "registry.k8s.io/pause:3.10"  # for the cluster itself
OTHERS = [
    *(name for target in ("mlflow", "nginx", "minio") for name in build_images.IMAGES[target]),
    "docker.io/postgres:17.6",
    PAUSE,
]
TESTS = ROOT / "dev" / "tests" / "executors"
DAGS = (TESTS / "dags", TESTS / "kubernetes" / "dags")  # in addition to the project's own


def build(docker: Docker) -> None:
    """Build the image of the project with the DAGs of the tests."""
    began = time.monotonic()
    dockerfile = ROOT / "deploy" / "kubernetes" / "Dockerfile"
    docker("build", "--quiet", f"--file={dockerfile}", f"--tag={AIRFLOW}", ROOT)
    with_dags = [f"--file={TESTS / 'Dockerfile'}", f"--build-arg=IMAGE={AIRFLOW}", f"--tag={AIRFLOW}"]
    for dags in DAGS:
        docker("build", "--quiet", *with_dags, dags)
    print(f"Image of the project ({time.monotonic() - began:.0f} s)", flush=True)


def load(node: Node) -> None:
    """Build or pull all images with a Docker engine and import them into our own cluster.

    :raises MissingError: this machine has no Docker engine and cannot run our own.
    """
    with engine() as docker:
        stand_ins = build_images.building(docker, "airflow", ("postgres", "mlflow", "nginx", "pause"))
        with stand_ins if docker.is_ours else nullcontext():
            build(docker)
        if not docker.is_ours:
            for image in OTHERS:
                docker("pull", "--quiet", image)
        began = time.monotonic()
        node.import_images(["docker", "save", AIRFLOW, *OTHERS], {**os.environ, **docker.environment})
        print(f"Images are in the cluster ({time.monotonic() - began:.0f} s)", flush=True)
        docker("image", "rm", AIRFLOW)


if __name__ == "__main__":
    build(Docker())
