"""Checks before a release: `uvx nox` runs the tests, builds the package and checks it.

`uvx nox -s tests` runs the tests at all corners of the supported versions. Each session has its own
environment.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

PROVIDER = Path(__file__).parent
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["tests(newest)", "package"]

# Older versions of Airflow need packages of their time. 3.1.0 fails to import with a later structlog, and to
# log in with a later PyJWT. 3.1.0 and 3.2 fail to test a DAG with a later FastAPI, Cadwyn or Starlette, and
# 3.2 warns about a later SQLAlchemy.
CORNERS = {
    "lowest": (
        "3.10",
        (
            "apache-airflow==3.1.0",
            "cadwyn<6",
            "fastapi<0.118",
            "pyjwt<2.11",
            "structlog==25.4.*",
            "mlflow-skinny==3.0.*",
        ),
    ),
    "middle": (
        "3.12",
        (
            "apache-airflow==3.2.*",
            "fastapi<0.140",
            "sqlalchemy<2.1",
            "starlette<1",
            "mlflow-skinny==3.9.*",
        ),
    ),
    "newest": ("3.13", ("apache-airflow==3.3.*", "mlflow-skinny==3.17.*")),
    # uv installs pre-releases only of packages whose requirement names one.
    "next": (
        "3.14",
        (
            "apache-airflow>=3.4.0b2",
            "apache-airflow-core>=3.4.0b2",
            "apache-airflow-task-sdk>=1.4.0b2",
            "mlflow-skinny==3.17.*",
        ),
    ),
}

# The client and the server of the next corner. The index has no mlflow-skinny of this version: the full
# package overwrites the previous one, whose dependencies suffice.
NEXT_MLFLOW = "3.18.0"


def _interpreter(version: str) -> str:
    """Return the Python of a version, from PATH or pyenv, or the running one if it is not installed."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    candidates = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")]
    for python in filter(None, candidates):
        # A shim of pyenv may exist without a Python.
        if not subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
            return str(python)
    return sys.executable


@nox.session
@nox.parametrize(
    "python,packages",
    [nox.param(_interpreter(version), packages, id=name) for name, (version, packages) in CORNERS.items()],
)
def tests(session: nox.Session, packages: tuple[str, ...]) -> None:
    """Run the provider's tests with these packages."""
    groups = nox.project.dependency_groups(nox.project.load_toml(PROVIDER / "pyproject.toml"), "test")
    session.install(*packages, *groups, str(PROVIDER))
    if packages == CORNERS["next"][1]:
        session.install("--no-deps", f"mlflow=={NEXT_MLFLOW}")
        session.env["MLFLOW_SERVER_PACKAGE"] = f"mlflow[auth]=={NEXT_MLFLOW}"
    session.run("python", "--version")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n2", str(PROVIDER / "tests")]))


@nox.session
def package(session: nox.Session) -> None:
    """Build the sdist, build the wheel from it, check both, and install the wheel."""
    folder = session.create_tmp()
    shutil.rmtree(folder)
    session.install("build[uv]", "twine")
    session.run("python", "-m", "build", "--installer=uv", f"--outdir={folder}", str(PROVIDER))
    built = [str(path) for path in Path(folder).iterdir()]
    session.run("python", "-m", "twine", "check", "--strict", *built)
    session.install(next(path for path in built if path.endswith(".whl")))
    session.run("python", "-c", "from mlflow_provider import task_run")


@nox.session
def sbom(session: nox.Session) -> None:
    """Write the bill of materials of the built wheel: the package and everything that it installs."""
    folder = Path(session.create_tmp())
    [wheel] = (folder.parents[1] / "package" / "tmp").glob("*.whl")
    session.install(str(wheel))
    environment = str(session.virtualenv.location)
    cyclonedx = ["uv", "tool", "run", "--from", "cyclonedx-bom>=7,<8", "cyclonedx-py", "environment"]
    session.run(*cyclonedx, environment, f"--output-file={folder / 'sbom.cdx.json'}", external=True)
