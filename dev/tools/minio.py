"""MinIO and versitygw for the tests: the machine's, or compiled here once.

``python3 -m dev.tools.minio`` compiles MinIO before the tests need it, and needs only Go. Go caches what it
compiled, so that the next clone on this machine only links it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dev import MissingError
from local_stack.settings import LOCAL

# The last commit of the archived repository and the newest of its client, as the Go module proxy has them.
MODULES = {
    "minio": "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
    "mc": "github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9",
}
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
FOLDER = LOCAL / "minio-build"


def minio_binary() -> Path:
    """Return the program named in ``MINIO``, or the one on PATH, or compile one, which takes some minutes.

    :raises MissingError: there is none, and no Go to compile it.
    """
    name = os.environ.get("MINIO") or "minio"
    if program := shutil.which(name):
        return Path(program).absolute()
    go = shutil.which("go")
    if not go and "minio" in missing():
        raise MissingError(f"There is no {name}. Install MinIO, set MINIO=/path/to/minio, or install Go.")
    compile_minio(go or "go")
    return FOLDER / "minio"


def missing() -> list[str]:
    """Return the names of the programs that are not compiled yet."""
    return [name for name in MODULES if not (FOLDER / name).exists()]


def compile_minio(go: str) -> None:
    """Compile the missing programs into :data:`FOLDER`; if another process is doing so, wait for it.

    :param go: path of the Go command.
    :raises RuntimeError: one could not be compiled.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in missing():
            print(f"Compiling {name}, which may take some minutes", flush=True)
            _compile(go, name, MODULES[name])


def versitygw_binary() -> Path:
    """Return versitygw: the one on PATH, or one compiled here, which takes some minutes.

    :raises MissingError: there is none, and no Go to compile it.
    """
    compiled = FOLDER / "versitygw"
    if program := shutil.which("versitygw"):
        return Path(program).absolute()
    if not compiled.exists():
        if not (go := shutil.which("go")):
            raise MissingError("There is no versitygw. Install it, or install Go.")
        FOLDER.mkdir(parents=True, exist_ok=True)
        _compile(go, "versitygw", VERSITYGW)
    return compiled


def _compile(go: str, name: str, module: str) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        variables = {
            "GOBIN": folder,
            "GOFLAGS": "-trimpath -buildvcs=false",
            "CGO_ENABLED": "0",  # runs on any Linux
            "GOGC": "400",  # more memory, less time
        }
        process = subprocess.run(
            # Unoptimized, in a third of the time; the tests store little.
            [go, "install", "-gcflags=all=-N -l", "-ldflags=-s -w", module],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode:
            raise RuntimeError(f"{name} could not be compiled: {process.stderr[-2000:]}")
        Path(folder, name).rename(FOLDER / name)  # complete, or not at all


if __name__ == "__main__":
    go = shutil.which("go") or sys.exit("Compiling MinIO needs Go, which is not on the PATH.")
    compile_minio(go)
