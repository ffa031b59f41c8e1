"""Run a DAG as ``airflow dags test`` does, in any version of Airflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_dag(folder: Path, dag_id: str, **environment: str) -> str:
    """Return what the command prints; Airflow 3.1 tests only DAGs that it has processed before.

    :param folder: the DAG's folder, where Airflow also gets a home.
    :param environment: additional variables.
    """
    variables = {"AIRFLOW_HOME": str(folder / "home"), "AIRFLOW__CORE__DAGS_FOLDER": str(folder)}
    for command in "db migrate", "dags reserialize", f"dags test {dag_id}":
        process = subprocess.run(
            [sys.executable, "-m", "airflow", *command.split()],
            env={**os.environ, **variables, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    return process.stdout
