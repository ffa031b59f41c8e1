"""Where things are, and which ports they use. Standard library only: read before anything is installed."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from itertools import combinations
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
MINIO = LOCAL / "minio"  # a link to the program that runs
MINIO_HOME = DATA / "minio"


class LocalError(Exception):
    """What went wrong, for the person at the terminal: one line, and the tail of a log where one helps."""

    def __init__(self, message: str, log: str = "", lines: int = 25) -> None:
        super().__init__("\n    ".join([message, *log.splitlines()[-lines:]]))


@dataclass(frozen=True)
class Ports:
    """The TCP ports the stack listens on, all of them on loopback; MinIO's are None where none runs."""

    airflow: int = 8080
    mlflow: int = 5000
    minio: int | None = None
    minio_console: int | None = None

    @classmethod
    def from_environment(cls, otherwise: Ports | None = None) -> Ports:
        """Read ``AIRFLOW_PORT``, ``MLFLOW_PORT`` and, with MinIO, ``MINIO_PORT`` and ``MINIO_CONSOLE_PORT``.

        :param otherwise: what holds for a variable that is not set; by default the usual ports.
        :raises LocalError: a value is no port number, or two name the same port.
        """
        ports = {}
        for variable, default in (otherwise or cls()).variables().items():
            value = os.environ.get(variable) or str(default)
            if not value.isdecimal() or not 0 < int(value) < 65536:
                raise LocalError(f"{variable}={value} is no port number; choose one from 1024 to 65535.")
            ports[variable] = int(value)
        for one, other in combinations(ports, 2):
            if ports[one] == ports[other]:
                raise LocalError(f"{one} and {other} are both {ports[one]}; they must differ.")
        return cls(**{variable.removesuffix("_PORT").lower(): port for variable, port in ports.items()})

    def variables(self) -> dict[str, int]:
        """Return the ports that are in use, by the environment variables that choose them."""
        return {f"{name.upper()}_PORT": port for name, port in asdict(self).items() if port}


WITH_MINIO = Ports(minio=9000, minio_console=9001)
