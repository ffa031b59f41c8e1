"""Make the environments: ``.venv`` for Airflow and this project, one of its own for the MLflow server.

Standard library only, because nothing is installed when this runs. uv does the installing, and is fetched
into ``.local/uv`` where the machine has none. What is up to date is skipped.

``python -m local.install`` adds the development tools.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from local.settings import LOCAL, MLFLOW_VENV, ROOT, VENV, LocalError, is_up

INPUTS = ("constraints.txt", "requirements.txt", "pyproject.toml", "provider/pyproject.toml")
SOURCES = ("local/*.py", "local/airflow.cfg", "plugins/**/*.py", "provider/src/**/*.py")
# Not the one of a virtual environment that somebody has activated, which may be the one to be made.
PYTHON: str = getattr(sys, "_base_executable", sys.executable)
# What uv and pip say, and what it means.
INDEX_PROBLEMS = {
    "40[13] (Client Error|Unauthorized|Forbidden)": "the package index does not accept the login. It is part "
    "of the address: set PIP_INDEX_URL to https://<user>:<password>@<address>.",
    "(?i)certificate": "the TLS certificate of the package index is not trusted. For a proxy with its own "
    "set SSL_CERT_FILE and PIP_CERT to the file that holds it.",
    "Failed to fetch|connection broken": "no package index answers. Behind a proxy set HTTPS_PROXY; "
    "for a mirror set PIP_INDEX_URL.",
}


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
        """Hash what decides the outcome, also where the project lies: programs name their Python."""
        return _hash(INPUTS, sys.version, sys.base_prefix, str(ROOT), *self.packages)

    def installed(self) -> str:
        """Return the fingerprint of what is installed: empty if that was interrupted, or never begun."""
        return self.stamp.read_text() if self.stamp.exists() else ""

    def is_done(self) -> bool:
        """Tell whether this is installed, from the inputs as they are now."""
        return self.installed() == self.fingerprint()

    def was_interrupted(self) -> bool:
        """Tell whether an installation of this began, and did not end."""
        return self.stamp.exists() and not self.installed()


WORKER = ("-r", "requirements.txt", "-e", "provider", "--group", "airflow", "--group", "local")
RUN = (Step("Airflow", VENV, WORKER), Step("the MLflow server", MLFLOW_VENV, ("--group", "mlflow-server")))
DEVELOP = (*RUN, Step("the development tools", VENV, ("--group", "dev")))


def _hash(patterns: Sequence[str], *more: str) -> str:
    files = [file for pattern in patterns for file in sorted(ROOT.glob(pattern))]
    return hashlib.sha256(repr(more).encode() + b"".join(file.read_bytes() for file in files)).hexdigest()


def version() -> str:
    """Return a hash of all that a running stack was started from and would not notice to have changed."""
    return _hash([*INPUTS, *SOURCES])


def install(steps: Sequence[Step]) -> None:
    """Bring the environments up to date; takes no time when they are.

    :raises LocalError: this Python can make no environment, or a package cannot be had.
    """
    # What an interrupted installation left may look like a package and be none, or be one that cannot even be
    # removed: such an environment is made anew, which takes seconds, as uv keeps what it has downloaded.
    spoilt = {step.venv for step in steps if step.was_interrupted()}
    missing = [step for step in steps if step.venv in spoilt or not step.is_done()]
    if not missing:
        return
    if is_up() and any(step in RUN for step in missing):
        raise LocalError(
            "The project has changed since the stack was started; `make down` or `make up` first."
        )
    uv = fetch_uv()
    with _told("Installing " + ", ".join(step.title for step in missing)):
        for venv in {step.venv for step in missing}:
            existing = "--clear" if venv in spoilt else "--allow-existing"
            _run("a virtual environment", uv, "venv", "-q", existing, "-p", PYTHON, venv)
        # uv keeps two of its processes from changing one environment at the same time.
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(_install, uv), missing))


def fetch_uv() -> Path:
    """Return the path of uv, which is installed into ``.local/uv`` first where it is missing.

    :raises LocalError: this Python cannot make virtual environments, or no package index answers.
    """
    home = LOCAL / "uv"
    uv = home / "bin" / "uv"
    if uv.exists():
        return uv
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        package = "python{}.{}-venv".format(*sys.version_info)
        raise LocalError(f"{PYTHON} has no venv module; on Debian or Ubuntu: apt install {package}")
    unfinished = LOCAL / "uv-unfinished"
    with _told("Fetching uv, which installs the rest"):
        _run("a virtual environment", PYTHON, "-m", "venv", "--clear", unfinished)
        python = unfinished / "bin" / "python"
        _run("uv", python, "-m", "pip", "install", "-vv", "--no-input", "--retries=1", "uv>=0.8,<1")
        unfinished.rename(home)
    return uv


def _install(uv: Path, step: Step) -> None:
    step.stamp.write_text("")
    packages = (*step.packages, "-c", "constraints.txt")
    _run(step.title, uv, "pip", "install", "-q", "-p", step.venv, *packages)
    if step.venv == VENV:
        # Where `include` and the provider are imported from. Relative, as Python reads these files in the
        # encoding of the locale, and the project's folder may have any name.
        (site,) = VENV.glob("lib/python*/site-packages")
        for name, folder in {"project": ROOT, "mlflow_provider": ROOT / "provider" / "src"}.items():
            (site / f"{name}.pth").write_text(os.path.relpath(folder, site))
    step.stamp.write_text(step.fingerprint())


def _run(what: str, *command: str | Path) -> None:
    """Run a command that installs; its output matters only when it fails."""
    environment = dict(os.environ)
    if "PIP_INDEX_URL" in environment:
        environment.setdefault("UV_DEFAULT_INDEX", environment["PIP_INDEX_URL"])
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stdout + done.stderr
        problems = (problem for words, problem in INDEX_PROBLEMS.items() if re.search(words, said))
        raise LocalError(f"Could not install {what}: {next(problems, 'see below.')}", said)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say what goes on: in a terminal with the seconds it has taken so far, elsewhere as one line."""
    began, done = time.monotonic(), threading.Event()

    def tick() -> None:
        while not done.wait(0.2):
            if sys.stdout.isatty():
                print(f"\r{what}: {time.monotonic() - began:.0f} s", end="", flush=True)
        print()

    print(what, end="", flush=True)
    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()


if __name__ == "__main__":
    os.chdir(ROOT)
    try:
        install(DEVELOP)
    except LocalError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Interrupted; the same command goes on where this stopped.")
