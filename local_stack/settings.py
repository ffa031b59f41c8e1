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


class LocalError(Exception):
    """An error to show in the terminal: one line, and the end of a log if that helps."""

    def __init__(self, message: str, log: str = "", lines: int = 25) -> None:
        super().__init__("\n    ".join([message, *log.splitlines()[-lines:]]))


def read_env_file() -> dict[str, str]:
    """Return the variables in ``.env``, read as the Astro CLI reads it."""
    file = ROOT / ".env"
    line = r"""^(?:export )?[ \t]*(\w+)[ \t]*=[ \t]*('[^']*'|"[^"]*"|.*?)(?:\s+#.*|\s*)$"""
    variables = re.findall(line, file.read_text("utf-8"), re.MULTILINE) if file.exists() else []
    return {name: value[1:-1] if value[:1] in ("'", '"') else value for name, value in variables}


def setting(name: str) -> str | None:
    """Return a variable of the shell or, if it is not set there, of ``.env``; otherwise None."""
    return os.environ.get(name, read_env_file().get(name))


def is_up() -> bool:
    """Return whether the supervisor of this clone's stack responds."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(SOCKET))
        return True
    return False
