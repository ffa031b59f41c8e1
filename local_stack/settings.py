"""Where things are, and what a person may set. Standard library only: read before anything is installed."""

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
TEMPORARY = LOCAL / "tmp"  # the stack's folder for temporary files
DATA = LOCAL / "data"  # databases, artifacts, task logs: what survives `down`
AIRFLOW = VENV / "bin" / "airflow"
AIRFLOW_HOME = DATA / "airflow"
MLFLOW_HOME = DATA / "mlflow"
# Relative to the project, where every process of the stack runs: a clone may lie deep, and the path of a unix
# socket may have 100 characters or so.
SOCKET = Path(".local", "supervisor.sock")


class LocalError(Exception):
    """What went wrong, for the person at the terminal: one line, and the tail of a log where one helps."""

    def __init__(self, message: str, log: str = "", lines: int = 25) -> None:
        super().__init__("\n    ".join([message, *log.splitlines()[-lines:]]))


def read_env_file() -> dict[str, str]:
    """Return the variables in ``.env``, as the Astro CLI reads it: ``NAME=value``, in quotes if need be."""
    file = ROOT / ".env"
    line = r"""^(?:export )?[ \t]*(\w+)[ \t]*=[ \t]*('[^']*'|"[^"]*"|.*?)(?:\s+#.*|\s*)$"""
    found = re.findall(line, file.read_text("utf-8"), re.MULTILINE) if file.exists() else []
    return {name: value[1:-1] if value[:1] in ("'", '"') else value for name, value in found}


def setting(name: str) -> str | None:
    """Return what the shell or, second, ``.env`` says of a variable; None if neither does."""
    return os.environ.get(name, read_env_file().get(name))


def is_up() -> bool:
    """Tell whether the supervisor of this clone's stack answers."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(SOCKET))
        return True
    return False
