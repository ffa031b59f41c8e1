"""The MinIO of the tests: the user's own, else one compiled here once."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from local.settings import LOCAL

# The last commit of the archived repository, and the newest of its client, as the Go module proxy has them.
MODULES = {
    "minio": "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
    "mc": "github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9",
}
FOLDER = LOCAL / "minio-build"


def minio_binary() -> Path:
    """Return the program that ``MINIO`` names, or the one on PATH, or compile one, which takes some minutes.

    Without Go a test that needs it is skipped, and in CI it fails.
    """
    named = os.environ.get("MINIO") or "minio"
    if found := shutil.which(named):
        return Path(found).absolute()
    go = shutil.which("go")
    if not go and not (FOLDER / "minio").exists():
        missing = (
            f"There is no {named}; install MinIO, say where it is (MINIO=/path/to/minio), or install Go."
        )
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    compile_minio(go or "go")
    return FOLDER / "minio"


def compile_minio(go: str) -> None:
    """Compile ``minio`` and ``mc`` into :data:`FOLDER`, unless they are there.

    :param go: path of the Go command.
    :raises RuntimeError: one could not be compiled.
    """
    missing = [name for name in MODULES if not (FOLDER / name).exists()]
    if not missing:
        return
    print(f"Compiling {' and '.join(missing)}, which takes some minutes", flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        variables = {
            "GOPATH": f"{folder}/go",
            "GOCACHE": f"{folder}/cache",
            "GOBIN": str(FOLDER),
            "GOFLAGS": "-trimpath -modcacherw -buildvcs=false",
            "CGO_ENABLED": "0",  # runs on any Linux
            "GOGC": "400",  # memory for time
        }
        for name in missing:
            done = subprocess.run(
                # Not optimized: that is a third of the time, and the tests store little.
                [go, "install", "-gcflags=all=-N -l", "-ldflags=-s -w", MODULES[name]],
                env={**os.environ, **variables},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"{name} could not be compiled: {done.stderr[-2000:]}")
