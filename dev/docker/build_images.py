"""Stand-ins for the images, built from Debian, PyPI and MinIO's source where no registry answers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dev import MissingError
from dev.docker.engine import DEBIAN, HOME, KEYRING, NEWER_SUITE, UNPACKED, Docker, apt, unpack
from dev.tools import minio
from local_stack.install import fetch_uv
from local_stack.settings import ROOT

RUNTIME = "3.3-8"
MLFLOW = "3.17.0"
[AIRFLOW] = re.findall("^apache-airflow==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
# The images that each target of the Dockerfile replaces; MinIO's without the digest of the real one.
IMAGES = {
    "postgres": ("docker.io/postgres:12.6", "docker.io/postgres:17.6"),
    "airflow": (f"docker.io/apache/airflow:{AIRFLOW}",),
    "pause": ("registry.k8s.io/pause:3.10",),
    "runtime": (f"astrocrpublic.azurecr.io/runtime:{RUNTIME}",),
    "mlflow": (f"ghcr.io/mlflow/mlflow:v{MLFLOW}-full",),
    "valkey": ("docker.io/valkey/valkey:8.1.9",),
    "nginx": ("docker.io/nginx:1.28.0",),
    "minio": ("quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z",),
    "versitygw": ("ghcr.io/versity/versitygw:v1.8.0",),
}
VERSIONS = {"RUNTIME": RUNTIME, "AIRFLOW": AIRFLOW, "MLFLOW": MLFLOW}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@contextmanager
def building(
    docker: Docker, first: str = "runtime", others: Sequence[str] = ("postgres", "valkey", "mlflow")
) -> Iterator[None]:
    """Build the stand-ins; earlier builds come from the engine's cache.

    In the block the first one exists, on which the project's image is built; after the block, all do.
    """
    with ThreadPoolExecutor() as pool, tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        shutil.copytree(Path(__file__).with_name("images"), context, dirs_exist_ok=True)
        shutil.copy(ROOT / "constraints.txt", context)
        shutil.copy(CERTIFICATES, context)
        shutil.copy(fetch_uv().resolve(), context / "uv")
        if "versitygw" in others:
            shutil.copy(minio.versitygw_binary(), context)
        compiling = pool.submit(_compile_minio)
        _make_base(docker)
        building = [pool.submit(_build, docker, target, context) for target in others]
        _build(docker, first, context)
        yield
        for work in (compiling, *building):
            work.result()
        for name in minio.MODULES:
            shutil.copy(minio.FOLDER / name, context)
        _build(docker, "minio", context)


def _build(docker: Docker, target: str, context: Path) -> None:
    began = time.monotonic()
    tags = [f"--tag={name}" for name in IMAGES[target]]
    versions = [f"--build-arg={name}={version}" for name, version in VERSIONS.items()]
    docker("build", "--quiet", f"--target={target}", *tags, *versions, context)
    print(f"Stand-in for {', '.join(IMAGES[target])} ({time.monotonic() - began:.0f} s)", flush=True)


def _make_base(docker: Docker) -> None:
    """Make the image ``standin-base``, a minimal Debian."""
    if docker("images", "--quiet", "standin-base"):
        return
    print("Making a Debian image to build on", flush=True)
    with tempfile.TemporaryDirectory(dir=HOME) as root:
        script = ["debootstrap", "--variant=minbase", f"--keyring={KEYRING}", "bookworm", root, DEBIAN]
        environment = {"DEBOOTSTRAP_DIR": str(UNPACKED / "usr/share/debootstrap")}
        if not Path(environment["DEBOOTSTRAP_DIR"]).exists():
            environment = {}  # the machine has its own
        try:
            _run(*script, **docker.environment, **environment)
        finally:
            # A debootstrap that fails leaves /proc mounted, and the deletion of the folder would fail in it
            # and hide the cause.
            _unmount(Path(root))
        shutil.rmtree(Path(root, "var/lib/apt/lists"))
        shutil.rmtree(Path(root, "var/cache/apt"))
        _run("sh", "-c", f"tar -C {root} -c . | docker import - standin-base", **docker.environment)


def _unmount(folder: Path) -> None:
    """Unmount everything below a folder."""
    mounted = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
    for path in sorted((path for path in mounted if path.is_relative_to(folder)), reverse=True):
        subprocess.run(["umount", "--lazy", path], check=True)


def _compile_minio() -> None:
    """Compile MinIO's server and client if they are missing."""
    if minio.missing():
        with go() as command:
            minio.compile_minio(command)


@contextmanager
def go() -> Iterator[str]:
    """Yield the path of a Go command: the machine's, or a temporary one from Debian."""
    if command := shutil.which("go"):
        yield command
        return
    with tempfile.TemporaryDirectory(dir=HOME) as folder:
        yield _unpack_go(Path(folder))


def _unpack_go(folder: Path) -> str:
    """Unpack Debian's newest Go into the folder, and return the path of its command."""
    (folder / "partial").mkdir()
    nothing_installed = folder / "status"
    nothing_installed.touch()
    status = f"-oDir::State::status={nothing_installed}"
    options = ("--yes", "--download-only", "--no-install-recommends", "golang-go")
    apt(NEWER_SUITE, status, "install", *options, folder=folder)
    unpack(folder, "golang-*.deb", folder)
    return str(next(folder.glob("usr/lib/go-*/bin/go")))


def _run(*command: str, **environment: str) -> None:
    process = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise MissingError(f"{' '.join(command)}: {(process.stdout + process.stderr)[-2000:]}")
