"""MinIO or versitygw, which stores MLflow's artifacts if there is such a program.

Its only user is the login of the connection ``minio_default`` in ``airflow_settings.yaml``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from local_stack import airflow_settings
from local_stack.settings import DATA, LOCAL, MLFLOW_HOME, LocalError

if TYPE_CHECKING:
    from local_stack.ports import Ports

PROGRAM = LOCAL / "minio"  # a link to the program
HOME = DATA / "minio"
BUCKET = HOME / "mlflow"  # a folder in MinIO's home is a bucket
ON_DISK = MLFLOW_HOME / "artifacts"  # where artifacts are without MinIO
CONN_ID = "minio_default"
NAMES = {"minio": "MinIO", "versitygw": "versitygw"}
HEALTH = "/minio/health/ready"


def choose() -> Path | None:
    """Return the program: the one that ``MINIO`` names, otherwise ``minio`` on PATH; None for the disk.

    Existing artifacts stay where they are, because no store finds those of another.

    :raises LocalError: ``MINIO`` is not a program, or the existing artifacts are in another store.
    """
    value = os.environ.get("MINIO")
    program = shutil.which("minio" if value is None else value)
    if value and not program:
        raise LocalError(f"MINIO={value}: program not found. Set MINIO= to store artifacts on disk.")
    earlier = "minio" if (BUCKET.parent / ".minio.sys").exists() else "versitygw"
    if _has_files(BUCKET) and (not program or kind(Path(program)) != earlier):
        raise LocalError(
            f"Earlier artifacts are in {NAMES[earlier]}. Run MINIO=/path/to/{earlier} make up, "
            "or start over: make reset."
        )
    if program and _has_files(ON_DISK) and not _has_files(BUCKET):
        message = "Earlier artifacts are on disk and stay there. To start over with MinIO: make reset."
        if value:
            raise LocalError(message)
        print(message)
        return None
    return Path(program).absolute() if program else None


def kind(program: Path) -> str:
    """Return ``versitygw``, which has other arguments than MinIO, or ``minio``."""
    return "versitygw" if program.name == "versitygw" else "minio"


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def prepare(program: Path) -> None:
    """Create the bucket and the link to the program."""
    BUCKET.mkdir(parents=True, exist_ok=True)
    PROGRAM.unlink(missing_ok=True)
    PROGRAM.symlink_to(program)


def environment(ports: Ports) -> dict[str, str]:
    """Return the variables that MinIO and its clients read: address, region and login.

    :raises LocalError: the connection ``minio_default`` is missing, or has no login and password.
    """
    connections = {each["connection_id"]: each for each in airflow_settings.read(ports)["connections"]}
    connection = connections.get(CONN_ID, {})
    login, password = (str(connection.get(field) or "") for field in ("login", "password"))
    if not (login and password):
        raise LocalError(
            f"The connection {CONN_ID} in {airflow_settings.FILE.name} has no login and password for MinIO. "
            "Add them, or set MINIO= to store artifacts on disk."
        )
    return {
        "MINIO_ROOT_USER": login,
        "MINIO_ROOT_PASSWORD": password,
        "ROOT_ACCESS_KEY": login,  # as versitygw calls them
        "ROOT_SECRET_KEY": password,
        "AWS_ACCESS_KEY_ID": login,
        "AWS_SECRET_ACCESS_KEY": password,
        "AWS_DEFAULT_REGION": "us-east-1",  # MinIO's default
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{ports.minio}",
    }


def is_ready(ports: Ports) -> bool:
    """Return whether the object store can store and return objects."""
    try:
        return requests.get(f"http://127.0.0.1:{ports.minio}{HEALTH}", timeout=5).ok
    except requests.RequestException:
        return False
