"""Paths and settings. Standard library only, because it is read before anything is installed."""

from __future__ import annotations

import os
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
VARIABLES = ("AIRFLOW_PORT", "MLFLOW_PORT", "MINIO_PORT", "MINIO_CONSOLE_PORT", "MINIO", "MLFLOW_AUTH")


class LocalError(Exception):
    """An error to show in the terminal: one line, and the end of a log if that helps."""

    def __init__(self, message: str, log: str = "", lines: int = 25) -> None:
        super().__init__("\n    ".join([message, *log.splitlines()[-lines:]]))


def read_env_file() -> dict[str, str]:
    """Return the variables in ``.env``."""
    from dotenv import dotenv_values  # here, because this module is read before anything is installed

    return {name: value or "" for name, value in dotenv_values(ROOT / ".env", interpolate=False).items()}


def apply_env_file() -> None:
    """Set the stack's variables that are in ``.env`` and not in the shell."""
    for name, value in read_env_file().items():
        if name in VARIABLES:
            os.environ.setdefault(name, value)


def is_up() -> bool:
    """Return whether the supervisor of this clone's stack responds."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(SOCKET))
        return True
    return False
