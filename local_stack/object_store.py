"""MinIO, the object store that keeps MLflow's artifacts where a ``minio`` program is at hand.

Its only user is the one of the connection ``minio_default`` in ``airflow_settings.yaml``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from local_stack import airflow_settings
from local_stack.settings import DATA, LOCAL, MLFLOW_HOME, LocalError, setting

if TYPE_CHECKING:
    from local_stack.ports import Ports

PROGRAM = LOCAL / "minio"  # a link to the program that runs
HOME = DATA / "minio"
BUCKET = HOME / "mlflow"  # a folder in MinIO's home is a bucket
ON_DISK = MLFLOW_HOME / "artifacts"  # where artifacts are without MinIO
CONN_ID = "minio_default"


def choose() -> Path | None:
    """Return the MinIO to run: the one that ``MINIO`` names, else the one on PATH; None for none.

    Where there are artifacts already, they decide: neither store would find what the other one holds.

    :raises LocalError: ``MINIO`` names no program, or another store than the one that holds the artifacts.
    """
    named = setting("MINIO")
    program = shutil.which("minio" if named is None else named)
    if named and not program:
        raise LocalError(f"MINIO={named}: there is no such program. With MINIO= artifacts go to the disk.")
    if not program and _has_files(BUCKET):
        raise LocalError(
            "Earlier artifacts are in MinIO, which is needed to find them again: "
            "MINIO=/path/to/minio make up. To start anew without it: make reset."
        )
    if program and _has_files(ON_DISK) and not _has_files(BUCKET):
        message = "Earlier artifacts are on the disk, MinIO would not find them. To start anew: make reset."
        if named:
            raise LocalError(message)
        print(message)
        return None
    return Path(program).absolute() if program else None


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def prepare(program: Path) -> None:
    """Make the bucket, and the link by which the program is started."""
    BUCKET.mkdir(parents=True, exist_ok=True)
    PROGRAM.unlink(missing_ok=True)
    PROGRAM.symlink_to(program)


def keys(ports: Ports) -> dict[str, str]:
    """Return what MinIO and its clients read: address, region, and the login of ``minio_default``.

    :raises LocalError: there is no such connection, or it has no login and password.
    """
    found = {entry["connection_id"]: entry for entry in airflow_settings.read(ports)["connections"]}
    login, password = (str(found.get(CONN_ID, {}).get(name) or "") for name in ("login", "password"))
    if not (login and password):
        raise LocalError(
            f"MinIO takes its login and password from the connection {CONN_ID} in "
            f"{airflow_settings.FILE.name}, which has none. With MINIO= artifacts go to the disk."
        )
    return {
        "MINIO_ROOT_USER": login,
        "MINIO_ROOT_PASSWORD": password,
        "AWS_ACCESS_KEY_ID": login,
        "AWS_SECRET_ACCESS_KEY": password,
        "AWS_DEFAULT_REGION": "us-east-1",  # MinIO's own
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{ports.minio}",
    }


def answers(ports: Ports) -> bool:
    """Tell whether MinIO is ready to take and give objects."""
    try:
        return requests.get(f"http://127.0.0.1:{ports.minio}/minio/health/ready", timeout=5).ok
    except requests.RequestException:
        return False
