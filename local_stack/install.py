"""Make the environments: ``.venv`` for Airflow and this project, one of its own for the MLflow server.

Standard library only, because nothing is installed when this runs. uv does the installing, and is fetched
into ``.local/uv`` where the machine has none. What is up to date is skipped.

``python -m local_stack.install`` adds the development tools.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local_stack.settings import LOCAL, MLFLOW_VENV, ROOT, VENV, LocalError, is_up

INPUTS = ("constraints.txt", "requirements.txt", "pyproject.toml", "provider/pyproject.toml")
SOURCES = ("local_stack/**/*.py", "local_stack/airflow.cfg", "plugins/**/*.py", "provider/src/**/*.py")
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


@dataclass
class Progress:
    """How far uv is, by what it prints: a line for each large package that it downloads, and one at the end.

    That is no interface: where a later uv says it otherwise, only the seconds are told.
    """

    sizes: dict[str, float] = field(default_factory=dict)  # MiB of the packages that are to be downloaded
    downloaded: set[str] = field(default_factory=set)
    installed: int = 0

    def hear(self, line: str) -> None:
        """Take in a line that uv has printed."""
        if size := re.match(r"Downloading (\S+) \(([\d.]+)MiB\)", line):
            self.sizes[size[1]] = float(size[2])
        elif end := re.match(r" Downloaded (\S+)", line):
            self.downloaded.add(end[1])
        elif count := re.match(r"Installed (\d+) package", line):
            self.installed += int(count[1])

    def __str__(self) -> str:
        done = sum(size for name, size in self.sizes.items() if name in self.downloaded)
        fetched = f", {done:.0f} of {sum(self.sizes.values()):.0f} MiB downloaded" if self.sizes else ""
        packages = "package" if self.installed == 1 else "packages"
        return fetched + (f", {self.installed} {packages} installed" if self.installed else "")


WORKER = ("-r", "requirements.txt", "-e", "provider", "--group", "airflow", "--group", "local-stack")
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
    with _told("Installing " + ", ".join(step.title for step in missing)) as progress:
        for venv in {step.venv for step in missing}:
            existing = "--clear" if venv in spoilt else "--allow-existing"
            _run("a virtual environment", uv, "venv", "-q", existing, "-p", PYTHON, venv)
        # uv keeps two of its processes from changing one environment at the same time.
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda step: _install(uv, step, progress.hear), missing))


def fetch_uv() -> Path:
    """Return the path of uv, which is installed into ``.local/uv`` first where it is missing.

    :raises LocalError: this Python cannot make virtual environments, or no package index answers.
    """
    home = LOCAL / "uv"
    uv = home / "bin" / "uv"
    if uv.exists():
        return uv
    unfinished = LOCAL / "uv-unfinished"
    make = (PYTHON, "-m", "venv", "--clear", unfinished)
    python = unfinished / "bin" / "python"
    fetch = ("install", "-vv", "--no-input", "--retries=1", "uv>=0.8,<1")
    with _told("Fetching uv, which installs the rest"):
        try:  # with the pip that is there, which saves the seconds in which venv would install another
            _run("a virtual environment", *make, "--without-pip")
            _run("uv", PYTHON, "-m", "pip", "--python", python, *fetch)
        except LocalError as error:  # there is none, or one before 22.3; if not, the other one tells, too
            if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
                package = "python{}.{}-venv".format(*sys.version_info)
                message = f"{PYTHON} has no venv module; on Debian or Ubuntu: apt install {package}"
                raise LocalError(message, str(error)) from None
            _run("a virtual environment", *make)
            _run("uv", python, "-m", "pip", *fetch)
    unfinished.rename(home)
    return uv


def _install(uv: Path, step: Step, hear: Callable[[str], None] | None = None) -> None:
    step.stamp.write_text("")
    packages = (*step.packages, "-c", "constraints.txt")
    _run(step.title, uv, "pip", "install", "--color=never", "-p", step.venv, *packages, hear=hear)
    if step.venv == VENV:
        # Where `include`, modules beside a plugin and the provider are imported from. Relative, because
        # Python reads these files in the encoding of the locale, and the project's folder may have any name.
        (site,) = VENV.glob("lib/python*/site-packages")
        folders = {"project": ROOT, "plugins": ROOT / "plugins", "mlflow_provider": ROOT / "provider" / "src"}
        for name, folder in folders.items():
            (site / f"{name}.pth").write_text(os.path.relpath(folder, site))
    step.stamp.write_text(step.fingerprint())


def _run(what: str, *command: str | Path, hear: Callable[[str], None] | None = None) -> None:
    """Run a command that installs; its output matters only when it fails.

    :param hear: is given each line of it, as it comes.
    """
    environment = dict(os.environ)
    if "PIP_INDEX_URL" in environment:
        environment.setdefault("UV_DEFAULT_INDEX", environment["PIP_INDEX_URL"])
    said = []
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            if hear:
                hear(line)
            said.append(line)
    if process.returncode:
        log = "".join(said)
        problems = (problem for words, problem in INDEX_PROBLEMS.items() if re.search(words, log))
        raise LocalError(f"Could not install {what}: {next(problems, 'see below.')}", log)


@contextmanager
def _told(what: str) -> Iterator[Progress]:
    """Say what goes on and how far it is: in a terminal on one line, elsewhere on one every ten seconds."""
    began, done, progress = time.monotonic(), threading.Event(), Progress()
    live = sys.stdout.isatty()

    def tell(end: str) -> None:
        print(f"  {time.monotonic() - began:.0f} s{progress}", end=end, flush=True)

    def tick() -> None:
        while not done.wait(0.2 if live else 10):
            tell("\033[K\r" if live else "\n")  # what is left of a longer line is erased
        tell("\n")

    print(what, flush=True)
    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        yield progress
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
