"""Paths and settings. Standard library only, because it is read before anything is installed."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DAGS = ROOT / "dags"
VENV = ROOT / ".venv"
LOCAL = ROOT / ".local"
MLFLOW_VENV = LOCAL / "mlflow-server"
LOGS = LOCAL / "logs"
TEMPORARY = LOCAL / "tmp"
DATA = LOCAL / "data"  # databases, artifacts and task logs, which `down` keeps
AIRFLOW = VENV / "bin" / "airflow"
AIRFLOW_HOME = DATA / "airflow"
MLFLOW_HOME = DATA / "mlflow"
# Relative to the project, where every process of the stack runs: the path of a unix socket is limited to
# about 100 characters.
SOCKET = Path(".local", "supervisor.sock")

# What a person may set for the stack, in the shell or in ``.env``.
VARIABLES = (
    "AIRFLOW_PORT",
    "MLFLOW_PORT",
    "MINIO_PORT",
    "MINIO_CONSOLE_PORT",
    "MINIO",
    "MLFLOW_AUTH",
    "AIRFLOW_ALLOWED_HOSTS",
)


_SINGLE_QUOTED = r"(?m)^\s*(?:export\s+)?(\w+)\s*=\s*'"
_REFERENCE = r"\$(?:\$|\{(?P<braced>\w+)(?::?-(?P<default>[^}]*))?\}|(?P<bare>[A-Za-z_]\w*))"


class LocalError(Exception):
    """An error to show in the terminal: one line, and the end of a log if that helps."""

    def __init__(self, message: str, log: str = "", lines: int = 25) -> None:
        super().__init__("\n    ".join([message, *log.splitlines()[-lines:]]))


def read_env_file() -> dict[str, str]:
    """Return the variables in ``.env``, with ``$OTHER`` and ``${OTHER}`` expanded as the Astro CLI does.

    A value in single quotes is literal, and ``$$`` is a dollar sign.

    .. seealso:: https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/
    """
    from dotenv import dotenv_values  # here, because this module is read before anything is installed

    file = ROOT / ".env"
    literal = re.findall(_SINGLE_QUOTED, file.read_text("utf-8")) if file.exists() else []
    variables: dict[str, str] = {}

    def expand(reference: re.Match[str]) -> str:
        name, default = reference["braced"] or reference["bare"], reference["default"]
        return variables.get(name) or os.environ.get(name) or default or "" if name else "$"

    for name, value in dotenv_values(file, interpolate=False).items():
        text = value or ""
        variables[name] = text if name in literal else re.sub(_REFERENCE, expand, text)
    return variables


def apply_env_file() -> None:
    """Set the stack's variables that are in ``.env`` and not in the shell."""
    for name, value in read_env_file().items():
        if name in VARIABLES:
            os.environ.setdefault(name, value)


def package_index() -> dict[str, str]:
    """Return uv's variable for the package index that is set for pip."""
    return {"UV_DEFAULT_INDEX": os.environ["PIP_INDEX_URL"]} if "PIP_INDEX_URL" in os.environ else {}


def is_up() -> bool:
    """Return whether the supervisor of this clone's stack responds."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(SOCKET))
        return True
    return False
