"""Checks whether this worker meets a model's requirements, and builds a virtualenv that does."""

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

# Runs a command in a folder with environment variables, logs its output, and raises if it fails.
Run = Callable[[list[str], Path, dict[str, str]], None]

# Files that MLflow writes to a model's folder; the last one only if the model was logged with constraints.
PYTHON, REQUIREMENTS, CONSTRAINTS = "python_env.yaml", "requirements.txt", "constraints.txt"


def unmet_requirements(model: Path) -> list[str]:
    """Return a description of each requirement of a model that this process does not meet.

    The requirements are the major and minor version of the Python that saved the model, and the lines of its
    ``requirements.txt`` that apply to this platform. MLflow pins the installed versions when it logs a model,
    so a worker that has been updated since does not meet them. ``mlflow-skinny`` counts as ``mlflow``,
    because it is the same code with fewer dependencies. An option or a URL, which only pip can check, counts
    as unmet.

    :param model: folder of the model.
    """
    python = _python(model)
    unmet = [] if python == _this_python() else [f"Python {python}, running {_this_python()}"]
    return [*unmet, *(problem for line in _lines(model / REQUIREMENTS) for problem in _unmet_by(line))]


def _python(model: Path) -> str:
    """Return the version of the Python that saved the model, e.g. ``3.12``."""
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
        yield f"{requirement}, installed {installed.version}"
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
    """Return the default folder for virtualenvs, in the user's cache because others may write to ``/tmp``.

    :raises MLflowProviderError: the user has no home, as a user ID that a container does not know.

    .. seealso:: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise MLflowProviderError(
            "No folder for virtualenvs, because the user of this worker has no home. "
            "Set venv_cache_path, or the variable XDG_CACHE_HOME, to a writable folder."
        ) from None
    return cache / "airflow-provider-mlflow"


def virtualenv(model: Path, cache: Path, run: Run) -> Path:
    """Return the Python of a virtualenv that meets a model's requirements, and build it if it is missing.

    Models with the same requirements, constraints, Python and platform share a virtualenv. It is kept until
    its folder is deleted.

    :param model: folder of the model.
    :param cache: folder of the virtualenvs.
    :param run: runs a command and logs its output.
    :raises MLflowProviderError: the virtualenv cannot be built.
    """
    python = _python(model)
    lines = [*_lines(model / REQUIREMENTS), *_lines(model / CONSTRAINTS)]
    key = "\n".join([f"Python {python}", sysconfig.get_platform(), *lines])
    home = cache / hashlib.sha256(key.encode()).hexdigest()[:32]
    executable = home / "bin" / "python"
    if not executable.exists():
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(home.with_suffix(".lock")):
                if not executable.exists():  # another task may have built it by now
                    _build(home, python, model, run)
        except OSError as error:
            raise MLflowProviderError(
                f"Cannot create a virtualenv in {cache}: {error}. Set venv_cache_path to a writable folder."
            ) from error
    log.info("Using the virtualenv %s", home)
    return executable


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Let one process at a time run a block. The lock is released when its process ends, even by a kill."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("Waiting for another task that is building the virtualenv")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(home: Path, python: str, model: Path, run: Run) -> None:
    log.info("Building the virtualenv %s, which later tasks reuse", home)
    # A virtualenv whose Python was uninstalled, and leftovers of builds that were killed.
    for leftover in (home, *home.parent.glob(f"{home.name}-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    with TemporaryDirectory(prefix=f"{home.name}-", dir=home.parent, ignore_cleanup_errors=True) as folder:
        _install(Path(folder, "venv"), python, model, run)
        # Moved when complete. A move only breaks the scripts of a virtualenv, which are not used.
        Path(folder, "venv").rename(home)


def _install(venv: Path, python: str, model: Path, run: Run) -> None:
    """Create a virtualenv, with uv if it is on PATH, otherwise with pip."""
    executable = str(venv / "bin" / "python")
    # uv has its own variable for the package index.
    index = {"UV_DEFAULT_INDEX": os.environ["PIP_INDEX_URL"]} if "PIP_INDEX_URL" in os.environ else {}
    environment = {**index, **os.environ}
    is_this_python = python == _this_python()
    if uv := shutil.which("uv"):
        run(
            [uv, "venv", "--python", sys.executable if is_this_python else python, str(venv)],
            model,
            environment,
        )
        # As pip does. Workers often cannot write bytecode, and would compile at every start.
        install = [uv, "pip", "install", "--compile-bytecode", "--python", executable]
    else:
        interpreter = sys.executable if is_this_python else shutil.which(f"python{python}")
        if not interpreter:
            raise MLflowProviderError(
                f"The model was saved with Python {python}, which is not on this worker. Put python{python}, "
                "or uv, which downloads it, on the worker's PATH; or log the model with Python "
                f"{_this_python()}."
            )
        run([interpreter, "-m", "venv", str(venv)], model, environment)
        # Isolated, because pip counts packages on PYTHONPATH as installed.
        install = [executable, "-I", "-m", "pip", "install"]
    run([*install, "-r", REQUIREMENTS], model, environment)
