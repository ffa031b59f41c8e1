"""The MinIO of the tests: the user's own, else one compiled here once.

``python3 -m dev.tests.helpers.minio_build`` compiles it ahead of the tests that need it, and needs nothing
installed but Go. What Go compiled stays in Go's own cache, so the next clone on this machine only links it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from local_stack.settings import LOCAL

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
    if not go and "minio" in missing():
        import pytest  # here, as the command line of this module does without it

        message = (
            f"There is no {named}; install MinIO, say where it is (MINIO=/path/to/minio), or install Go."
        )
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    compile_minio(go or "go")
    return FOLDER / "minio"


def missing() -> list[str]:
    """Return which of the programs are not compiled yet."""
    return [name for name in MODULES if not (FOLDER / name).exists()]


def compile_minio(go: str) -> None:
    """Compile into :data:`FOLDER` what is missing there; a process that finds another at it waits.

    :param go: path of the Go command.
    :raises RuntimeError: one could not be compiled.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in missing():
            print(f"Compiling {name}, which may take some minutes", flush=True)
            _compile(go, name)


def _compile(go: str, name: str) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        variables = {
            "GOBIN": folder,
            "GOFLAGS": "-trimpath -buildvcs=false",
            "CGO_ENABLED": "0",  # runs on any Linux
            "GOGC": "400",  # memory for time
        }
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
        Path(folder, name).rename(FOLDER / name)  # whole, or not at all


if __name__ == "__main__":
    go = shutil.which("go") or sys.exit("MinIO is compiled with Go, which is not on PATH.")
    compile_minio(go)
