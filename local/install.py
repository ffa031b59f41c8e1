"""Make the environments: ``.venv`` for Airflow and this project, one of its own for the MLflow server.

Standard library only, because nothing is installed when this runs. uv does the installing, and is fetched
into ``.local/uv`` where the machine has none. What is up to date is skipped.

``python -m local.install dev`` adds the development tools, ``python -m local.install lock`` pins anew.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from local.settings import LOCAL, MLFLOW_VENV, ROOT, VENV, LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

INPUTS = ("constraints.txt", "requirements.txt", "pyproject.toml", "provider/pyproject.toml")
UNREACHABLE = re.compile("Failed to fetch|connection broken")  # uv's words, and pip's


@dataclass(frozen=True)
class Step:
    """Packages that go into a virtual environment; ``packages`` are arguments of ``uv pip install``."""

    title: str
    venv: Path
    packages: tuple[str, ...]

    @property
    def stamp(self) -> Path:
        """The file that says what was installed; it lies in the environment, and goes away with it."""
        return self.venv / f"installed-{self.title.replace(' ', '-')}"

    def fingerprint(self) -> str:
        """Hash what decides the outcome, also where the project lies: an editable install points there."""
        decisions = repr((sys.version, sys.executable, str(ROOT), self.packages)).encode()
        return hashlib.sha256(decisions + b"".join((ROOT / name).read_bytes() for name in INPUTS)).hexdigest()

    def is_done(self) -> bool:
        """Tell whether this is installed, from the inputs as they are now."""
        return self.stamp.exists() and self.stamp.read_text() == self.fingerprint()


RUN = (
    Step(
        "Airflow",
        VENV,
        ("-r", "requirements.txt", "-e", "provider", "--group", "airflow", "--group", "local"),
    ),
    Step("the MLflow server", MLFLOW_VENV, ("--group", "mlflow-server")),
)
DEVELOP = (*RUN, Step("the development tools", VENV, ("--group", "dev")))


def install(steps: Sequence[Step]) -> None:
    """Bring the environments up to date; takes no time when they are.

    :raises LocalError: this Python can make no environment, or a package cannot be had.
    """
    missing = [step for step in steps if not step.is_done()]
    if not missing:
        return
    uv = find_uv() or fetch_uv()
    with _told("Installing " + ", ".join(step.title for step in missing)):
        for venv in {step.venv for step in missing}:
            # What the environment holds stays: a stack may be running from it.
            _run("a virtual environment", uv, "venv", "-q", "--allow-existing", "-p", sys.executable, venv)
        # uv keeps two of its processes from changing one environment at the same time.
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(_install, uv), missing))


def lock(uv: str) -> None:
    """Pin the newest versions that suit everything in one file, for every platform and Python from 3.10 on.

    :raises LocalError: there is no such set, or no package index answers.
    """
    groups = [f"--group={name}" for name in ("airflow", "mlflow-server", "local", "dev")]
    options = ["--universal", "--python-version=3.10", "--upgrade", "--no-annotate"]
    header = ["--custom-compile-command", "make lock"]
    inputs = ["requirements.txt", "provider/pyproject.toml", *groups]
    _run("the pins", uv, "pip", "compile", "-q", *options, *header, *inputs, "-o", "constraints.txt")


def find_uv() -> str | None:
    """Return the path of a uv that knows dependency groups, if there is one."""
    for uv in (shutil.which("uv"), shutil.which("uv", path=LOCAL / "uv" / "bin")):
        if uv:
            said = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout
            version = re.search(r"(\d+)\.(\d+)", said)
            if version and (int(version[1]), int(version[2])) >= (0, 8):
                return uv
    return None


def fetch_uv() -> str:
    """Install uv into ``.local/uv`` and return its path.

    :raises LocalError: this Python cannot make virtual environments, or no package index answers.
    """
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        package = "python{}.{}-venv".format(*sys.version_info)
        raise LocalError(f"{sys.executable} has no venv module; on Debian or Ubuntu: apt install {package}")
    home = LOCAL / "uv"
    with _told("Fetching uv, which installs the rest"):
        _run("a virtual environment", sys.executable, "-m", "venv", "--clear", home)
        _run("uv", home / "bin" / "python", "-m", "pip", "install", "-q", "--retries", "1", "uv>=0.8,<1")
    return str(home / "bin" / "uv")


def _install(uv: str, step: Step) -> None:
    _run(step.title, uv, "pip", "install", "-q", "-p", step.venv, "-c", "constraints.txt", *step.packages)
    step.stamp.write_text(step.fingerprint())


def _run(what: str, *command: str | Path) -> None:
    """Run a command that installs; its output matters only when it fails."""
    environment = dict(os.environ)
    if "PIP_INDEX_URL" in environment:
        environment.setdefault("UV_DEFAULT_INDEX", environment["PIP_INDEX_URL"])
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    message = f"Could not install {what}."
    if UNREACHABLE.search(done.stderr):
        message = (
            f"Could not install {what}: no package index answers. Behind a proxy set HTTPS_PROXY; "
            "for a mirror set PIP_INDEX_URL."
        )
    raise LocalError(message, done.stderr)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say what goes on: in a terminal with the seconds it has taken so far, elsewhere as one line."""
    if not sys.stdout.isatty():
        print(what, flush=True)
        yield
        return
    done = threading.Event()

    def tick() -> None:
        began = time.monotonic()
        while not done.wait(0.2):
            print(f"\r{what}: {time.monotonic() - began:.0f} s", end="", flush=True)
        print()

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()


def main() -> None:
    """Run from the Makefile: ``dev`` or ``lock``."""
    if sys.argv[1:] == ["lock"]:
        lock(find_uv() or fetch_uv())
    elif sys.argv[1:] == ["dev"]:
        install(DEVELOP)
    else:
        raise LocalError("Usage: python -m local.install dev | lock")


if __name__ == "__main__":
    try:
        main()
    except LocalError as error:
        sys.exit(str(error))
