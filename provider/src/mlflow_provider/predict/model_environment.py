"""What a model requires: whether it is installed in this process, and a virtualenv where it is not."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import InvalidRequirement, Requirement

from mlflow_provider.exceptions import MLflowProviderError

log = logging.getLogger(__name__)

# Runs a command in a folder with these variables, logs what it prints, and raises if it fails.
Run = Callable[[list[str], Path, dict[str, str]], None]

# Written by MLflow into the folder of a model; the last only if it was logged with constraints.
PYTHON, REQUIREMENTS, CONSTRAINTS = "python_env.yaml", "requirements.txt", "constraints.txt"


def unmet_requirements(model: Path) -> list[str]:
    """Return in words what the model requires and this process lacks; nothing if it may run here.

    A model may run here if the Python it was saved with has this one's major and minor version, and each
    line of its ``requirements.txt`` that applies to this platform is installed in a version that the line
    allows. MLflow pins the versions it finds when a model is logged, so a worker that was updated since
    does not meet them. ``mlflow-skinny`` counts as ``mlflow``: it is the same code with fewer dependencies. A
    line that only pip can check, an option or a URL, counts as unmet.

    :param model: folder with the model.
    """
    python = _python(model)
    unmet = [] if python == _this_python() else [f"Python {python}, this is {_this_python()}"]
    return [*unmet, *(problem for line in _lines(model / REQUIREMENTS) for problem in _unmet_by(line))]


def _python(model: Path) -> str:
    """Return the Python that the model was saved with, e.g. ``3.12``."""
    import yaml

    file = model / PYTHON
    version = yaml.safe_load(file.read_text()).get("python") if file.exists() else None
    return ".".join(version.split(".")[:2]) if version else _this_python()


def _this_python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _lines(file: Path) -> Iterator[str]:
    text = file.read_text().replace("\\\n", " ") if file.exists() else ""
    for line in text.splitlines():
        if line := re.sub(r"(^|\s)#.*", "", line).strip():
            yield line


def _unmet_by(line: str) -> Iterator[str]:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        yield f"{line}, which only pip can check"
        return
    if requirement.marker is None or requirement.marker.evaluate():
        yield from _unmet(requirement)


def _unmet(requirement: Requirement) -> Iterator[str]:
    installed = _installed(requirement.name)
    if requirement.url:
        yield f"{requirement}, which only pip can check"
    elif installed is None:
        yield f"{requirement}, not installed"
    elif not requirement.specifier.contains(installed.version, prereleases=True):
        yield f"{requirement}, installed is {installed.version}"
    else:
        for extra in requirement.extras:
            for dependency in map(Requirement, installed.requires or ()):
                if dependency.marker and dependency.marker.evaluate({"extra": extra}):
                    yield from _unmet(dependency)


def _installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return _installed("mlflow-skinny") if name == "mlflow" else None


def default_cache() -> Path:
    """Return where virtualenvs are kept: the user's cache folder, since others may write to ``/tmp``.

    .. seealso:: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-provider-mlflow"


def virtualenv(model: Path, cache: Path, run: Run) -> Path:
    """Return the Python of a virtualenv with all that the model requires; build it where there is none.

    Models with the same requirements, constraints, Python and platform share one. It stays until its folder
    is deleted.

    :param model: folder with the model.
    :param cache: folder with the virtualenvs.
    :param run: runs a command and logs its output.
    :raises MLflowProviderError: it cannot be built.
    """
    python = _python(model)
    listed = [*_lines(model / REQUIREMENTS), *_lines(model / CONSTRAINTS)]
    decisive = [f"Python {python}", sysconfig.get_platform(), *listed]
    home = cache / hashlib.sha256("\n".join(decisive).encode()).hexdigest()[:32]
    executable = home / "bin" / "python"
    if not executable.exists():
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(home.with_suffix(".lock")):
                if not executable.exists():  # another task may just have built it
                    _build(home, python, model, run)
        except OSError as error:
            raise MLflowProviderError(
                f"No virtualenv can be kept in {cache}: {error}. Set venv_cache_path to a writable folder."
            ) from error
    log.info("The model runs in the virtualenv %s.", home)
    return executable


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Let one process at a time into a block; the lock ends with its process, however that ends."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("Another task is building the virtualenv; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(home: Path, python: str, model: Path, run: Run) -> None:
    log.info("Building the virtualenv %s; later tasks will reuse it.", home)
    # A virtualenv whose Python was uninstalled, and remains of builds that were killed.
    for remains in (home, *home.parent.glob(f"{home.name}-*")):
        shutil.rmtree(remains, ignore_errors=True)
    with TemporaryDirectory(prefix=f"{home.name}-", dir=home.parent, ignore_cleanup_errors=True) as folder:
        _install(Path(folder, "venv"), python, model, run)
        # It appears complete or not at all. Only its scripts would break when moved, and they are not run.
        Path(folder, "venv").rename(home)


def _install(venv: Path, python: str, model: Path, run: Run) -> None:
    """Make a virtualenv, with uv if it is on PATH, otherwise with pip."""
    executable = str(venv / "bin" / "python")
    # uv reads the package index from a variable of its own.
    index = {"UV_DEFAULT_INDEX": os.environ["PIP_INDEX_URL"]} if "PIP_INDEX_URL" in os.environ else {}
    environment = {**index, **os.environ}
    same = python == _this_python()
    if uv := shutil.which("uv"):
        run([uv, "venv", "--python", sys.executable if same else python, str(venv)], model, environment)
        # pip compiles too. Workers are often forbidden to write bytecode, and would compile at every start.
        install = [uv, "pip", "install", "--compile-bytecode", "--python", executable]
    else:
        interpreter = sys.executable if same else shutil.which(f"python{python}")
        if not interpreter:
            raise MLflowProviderError(
                f"The model was saved with Python {python}, which this worker lacks. Put uv on the worker's "
                f"PATH, which downloads it, or python{python}; or log the model with Python {_this_python()}."
            )
        run([interpreter, "-m", "venv", str(venv)], model, environment)
        # Isolated, or what PYTHONPATH leads to would count as installed.
        install = [executable, "-I", "-m", "pip", "install"]
    run([*install, "-r", REQUIREMENTS], model, environment)
