"""Create the environments: ``.venv`` for Airflow and this project, and a separate one for the MLflow server.

Standard library only, because nothing is installed when this runs. uv installs everything; it is fetched into
``.local/uv`` first. Environments that are up to date are skipped.

``python -m local_stack.install`` also installs the development tools.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from local_stack.settings import LOCAL, MLFLOW_VENV, ROOT, VENV, LocalError, is_up, package_index

INPUTS = ("constraints.txt", "requirements.txt", "pyproject.toml", "provider/pyproject.toml")
SOURCES = ("local_stack/**/*.py", "local_stack/airflow.cfg", "plugins/**/*.py", "provider/src/**/*.py")
# Not the Python of an activated virtual environment, which may be the one to create.
PYTHON: str = getattr(sys, "_base_executable", sys.executable)
# Patterns in the output of uv and pip, and what they mean.
INDEX_PROBLEMS = {
    "40[13] (Client Error|Unauthorized|Forbidden)": "the package index rejects the login. It is part of the "
    "address: set PIP_INDEX_URL to https://<user>:<password>@<address>.",
    "(?i)certificate": "the TLS certificate of the package index is not trusted. If a proxy uses its own "
    "certificate, set SSL_CERT_FILE and PIP_CERT to the file with it.",
    "Failed to fetch|connection broken": "no package index responds. Behind a proxy, set HTTPS_PROXY; "
    "for a mirror, set PIP_INDEX_URL.",
}


@dataclass(frozen=True)
class Step:
    """Packages for a virtual environment; ``packages`` are arguments of ``uv pip install``."""

    title: str
    venv: Path
    packages: tuple[str, ...]

    @property
    def stamp(self) -> Path:
        """The file that records what was installed. It is deleted together with the environment."""
        return self.venv / f"installed-{self.title.replace(' ', '-')}"

    def version(self) -> str:
        """Hash all inputs, including the project's path, because scripts contain the path of their Python."""
        return _hash(INPUTS, sys.version, sys.base_prefix, str(ROOT), *self.packages)

    def installed_version(self) -> str:
        """Return the version that is installed; empty if the installation never began or was interrupted."""
        return self.stamp.read_text() if self.stamp.exists() else ""

    def is_done(self) -> bool:
        """Return whether the current version is installed."""
        return self.installed_version() == self.version()

    def was_interrupted(self) -> bool:
        """Return whether an installation began and did not end."""
        return self.stamp.exists() and not self.installed_version()


WORKER = ("-r", "requirements.txt", "-e", "provider", "--group", "airflow", "--group", "local-stack")
RUN = (Step("Airflow", VENV, WORKER), Step("the MLflow server", MLFLOW_VENV, ("--group", "mlflow-server")))
DEVELOPMENT = (*RUN, Step("the development tools", VENV, ("--group", "dev")))


def _hash(patterns: Sequence[str], *more: str) -> str:
    files = [file for pattern in patterns for file in sorted(ROOT.glob(pattern))]
    return hashlib.sha256(repr(more).encode() + b"".join(file.read_bytes() for file in files)).hexdigest()


def project_version() -> str:
    """Hash the files that a running stack was started from; it does not notice their changes by itself."""
    return _hash([*INPUTS, *SOURCES])


def install(steps: Sequence[Step]) -> None:
    """Bring the environments up to date; return at once if they are.

    :raises LocalError: this Python cannot create an environment, or a package cannot be installed.
    """
    # An interrupted installation may leave a package that looks complete or cannot be removed. Such an
    # environment is created again, which takes seconds, because uv caches its downloads.
    broken = {step.venv for step in steps if step.was_interrupted()}
    steps = [step for step in steps if step.venv in broken or not step.is_done()]
    if not steps:
        return
    if is_up() and any(step in RUN for step in steps):
        raise LocalError(
            "The project has changed since the stack was started. Run `make down` or `make up` first."
        )
    uv = fetch_uv()
    print("Installing " + ", ".join(step.title for step in steps), flush=True)
    for venv in {step.venv for step in steps}:
        existing = "--clear" if venv in broken else "--allow-existing"
        _run("a virtual environment", uv, "venv", "-q", existing, "-p", PYTHON, venv)
    # uv locks an environment, so two of its processes never change the same one at the same time.
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda step: _install(uv, step), steps))


def fetch_uv() -> Path:
    """Return the path of uv, and install it into ``.local/uv`` first if necessary.

    :raises LocalError: this Python cannot create virtual environments, or no package index responds.
    """
    home = LOCAL / "uv"
    uv = home / "bin" / "uv"
    if uv.exists():
        return uv
    unfinished = LOCAL / "uv-unfinished"
    create = (PYTHON, "-m", "venv", "--clear", unfinished)
    python = unfinished / "bin" / "python"
    fetch = ("install", "-vv", "--no-input", "--retries=1", "uv>=0.8,<1")
    print("Installing uv, which installs the rest", flush=True)
    try:  # with this Python's pip, because installing another one into the environment takes seconds
        _run("a virtual environment", *create, "--without-pip")
        _run("uv", PYTHON, "-m", "pip", "--python", python, *fetch)
    except (
        LocalError
    ) as error:  # no pip, or one older than 22.3, or a problem that the second attempt reports
        if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
            package = "python{}.{}-venv".format(*sys.version_info)
            message = f"{PYTHON} has no venv module. On Debian or Ubuntu: apt install {package}"
            raise LocalError(message, str(error)) from None
        _run("a virtual environment", *create)
        _run("uv", python, "-m", "pip", *fetch)
    unfinished.rename(home)
    return uv


def _install(uv: Path, step: Step) -> None:
    step.stamp.write_text("")
    packages = (*step.packages, "-c", "constraints.txt")
    _run(step.title, uv, "pip", "install", "--color=never", "-p", step.venv, *packages, show=True)
    if step.venv == VENV:
        # Import paths of `include`, of modules next to a plugin, and of the provider. They are relative,
        # because Python reads these files in the encoding of the locale, and the project's folder may have
        # any name.
        (site,) = VENV.glob("lib/python*/site-packages")
        # The last one replaces hatchling's, with an absolute path that Python may not be able to decode.
        provider = {"_editable_impl_airflow_provider_mlflow": ROOT / "provider" / "src"}
        folders = {"project": ROOT, "plugins": ROOT / "plugins", **provider}
        for name, folder in folders.items():
            (site / f"{name}.pth").write_text(os.path.relpath(folder, site))
    step.stamp.write_text(step.version())


def _run(title: str, *command: str | Path, show: bool = False) -> None:
    """Run a command that installs something.

    :param show: print its output as it comes, apart from the list of packages.
    :raises LocalError: the command failed; the error names the cause and ends with the output.
    """
    environment = {**package_index(), **os.environ}
    log = ""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            log += line
            if show and not line.startswith((" + ", " - ", " ~ ")):
                print(f"  {line.strip()}", flush=True)
    if process.returncode:
        causes = (cause for pattern, cause in INDEX_PROBLEMS.items() if re.search(pattern, log))
        raise LocalError(f"Could not install {title}: {next(causes, 'see below.')}", log)


if __name__ == "__main__":
    os.chdir(ROOT)
    try:
        install(DEVELOPMENT)
    except LocalError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Interrupted. Run the same command again to continue.")
