"""Postgres and MinIO in the cluster, in place of a platform's, with their logins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dev.cluster.kubectl import Kubectl

# Demo values, for a temporary cluster.
NAMESPACE = "platform"
LOGIN = "mlflow:mlflow-test-secret"
STORE = "http://minio.platform:9000"
REGION = "us-east-1"
ADMINISTRATOR = ("minio-test", "minio-test-secret")
BUCKETS = {"mlflow": "mlflow-test-secret", "airflow-logs": "logs-test-secret"}


def database(name: str) -> str:
    """Return the address of a database."""
    return f"postgresql+psycopg2://{LOGIN}@postgres.platform/{name}"


def install(cluster: Kubectl) -> None:
    """Start both, and create the databases, the buckets, and a key per bucket that opens no other."""
    cluster("apply", f"--filename={Path(__file__).with_suffix('.yaml')}")
    for name in ("postgres", "minio"):
        cluster("rollout", "status", "--namespace=platform", f"deployment/{name}", "--timeout=10m")
    _inside(cluster, "postgres", "createdb --username=mlflow airflow")
    for bucket, secret in BUCKETS.items():
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": "s3:*",
                    "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
                }
            ],
        }
        for command in (
            f"mc mb minio/{bucket}",
            f"echo '{json.dumps(policy)}' > /tmp/policy.json",
            f"mc admin policy create minio {bucket} /tmp/policy.json",
            f"mc admin user add minio {bucket} {secret}",
            f"mc admin policy attach minio {bucket} --user {bucket}",
        ):
            _inside(cluster, "minio", command)


def _inside(cluster: Kubectl, name: str, command: str) -> None:
    cluster("exec", "--namespace=platform", f"deployment/{name}", "--", "sh", "-euc", command)
