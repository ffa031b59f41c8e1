"""MinIO, the object store that keeps MLflow's artifacts where a ``minio`` program is at hand.

Its only user is the one of the connection ``minio_default`` in ``airflow_settings.yaml``.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local import connections
from local.settings import LOCAL, MINIO_HOME, MLFLOW_HOME, LocalError, Ports

if TYPE_CHECKING:
    from rich.console import Console

BUCKET = "mlflow"
ARTIFACTS = MLFLOW_HOME / "artifacts"  # where they are without MinIO
CONN_ID = "minio_default"
OTHER_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch")


def choose(console: Console) -> Path | None:
    """Return the MinIO to run: the one that ``MINIO`` names, else the one on PATH; None for none.

    Where there are artifacts already, they decide: neither store would find what the other one holds.

    :raises LocalError: ``MINIO`` names no program, or another store than the one that holds the artifacts.
    """
    named = os.environ.get("MINIO")
    program = shutil.which("minio" if named is None else named)
    if named and not program:
        raise LocalError(f"MINIO={named}: there is no such program. With MINIO= artifacts go to the disk.")
    if _has_files(MINIO_HOME / BUCKET):
        if not program:
            raise LocalError(
                "Earlier artifacts are in MinIO, which is needed to find them again: "
                "MINIO=/path/to/minio make up. To start anew without it, move .local/data away."
            )
    elif program and _has_files(ARTIFACTS):
        advice = "To start anew with MinIO, `make down` and move .local/data away."
        if named:
            raise LocalError(f"Earlier artifacts are on the disk, and MinIO would not find them. {advice}")
        console.print(f"Artifacts go to the disk, where earlier ones are. {advice}")
        return None
    return Path(program).absolute() if program else None


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def client_environment(ports: Ports) -> dict[str, str]:
    """Return what S3 clients read: address, keys and region, as the connection ``minio_default`` has them.

    :raises LocalError: there is no such connection, or it has no keys that can be used.
    """
    found = {entry["connection_id"]: entry for entry in connections.read(ports)["connections"]}
    keys = [str(found.get(CONN_ID, {}).get(name) or "") for name in ("login", "password")]
    # The supervisor's configuration has no way to write others.
    if not all(re.fullmatch(r"[^\s\"']+", key) for key in keys):
        raise LocalError(
            f"MinIO takes its login and password from the connection {CONN_ID} in {connections.FILE.name}, "
            "which is not there, lacks them, or has a space or a quotation mark in them. "
            "With MINIO= artifacts go to the disk."
        )
    return {
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{ports.minio}",
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_DEFAULT_REGION": "us-east-1",  # MinIO's own
    }


def server_environment(ports: Ports) -> dict[str, str]:
    """Return what MinIO itself reads: the same keys, and a home, where it makes a folder."""
    keys = client_environment(ports)
    return {
        "MINIO_ROOT_USER": keys["AWS_ACCESS_KEY_ID"],
        "MINIO_ROOT_PASSWORD": keys["AWS_SECRET_ACCESS_KEY"],
        "HOME": str(LOCAL),
    }


@cache
def _client(ports: Ports) -> Any:
    import boto3  # here, as it takes a third of a second
    from botocore.config import Config

    keys = client_environment(ports)
    return boto3.client(
        "s3",
        endpoint_url=keys["MLFLOW_S3_ENDPOINT_URL"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name=keys["AWS_DEFAULT_REGION"],
        config=Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1}),
    )


def answers(ports: Ports) -> bool:
    """Tell whether MinIO answers a request that is signed with the keys.

    :raises LocalError: it knows other keys.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _client(ports).list_buckets()
    except BotoCoreError:
        return False
    except ClientError as error:
        if error.response["Error"]["Code"] in OTHER_KEYS:
            message = f"MinIO does not take the keys of {CONN_ID}; it learns new ones from `make down up`."
            raise LocalError(message) from None
        return False  # it is starting
    return True


def make_bucket(ports: Ports) -> None:
    """Make the bucket, unless it is there."""
    s3 = _client(ports)
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=BUCKET)
