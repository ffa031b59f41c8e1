"""Where things are, and which ports they use. Standard library only: read before anything is installed."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DAGS = ROOT / "dags"
VENV = ROOT / ".venv"
LOCAL = ROOT / ".local"
MLFLOW_VENV = LOCAL / "mlflow-server"
LOGS = LOCAL / "logs"
DATA = LOCAL / "data"  # databases, artifacts, task logs: what survives `down`
AIRFLOW = VENV / "bin" / "airflow"
AIRFLOW_HOME = DATA / "airflow"
MLFLOW_HOME = DATA / "mlflow"


class LocalError(Exception):
    """What went wrong, for the person at the terminal: one line, and the tail of a log where one helps."""

    def __init__(self, message: str, log: str = "", lines: int = 25) -> None:
        super().__init__("\n    ".join([message, *log.splitlines()[-lines:]]))


@dataclass(frozen=True)
class Ports:
    """The TCP ports the stack listens on, all of them on 127.0.0.1."""

    airflow: int = 8080
    mlflow: int = 5000

    @classmethod
    def from_environment(cls, otherwise: Ports | None = None) -> Ports:
        """Read ``AIRFLOW_PORT`` and ``MLFLOW_PORT``.

        :param otherwise: what holds for a variable that is not set; by default the usual ports.
        :raises LocalError: a value is no port number, or both name the same port.
        """
        ports = {}
        for name, default in asdict(otherwise or cls()).items():
            variable = f"{name.upper()}_PORT"
            value = os.environ.get(variable) or str(default)
            if not value.isdecimal() or not 0 < int(value) < 65536:
                raise LocalError(f"{variable}={value} is no port number; choose one from 1024 to 65535.")
            ports[name] = int(value)
        if len(set(ports.values())) < len(ports):
            raise LocalError(f"AIRFLOW_PORT and MLFLOW_PORT are both {ports['mlflow']}; they must differ.")
        return cls(**ports)
