"""A DAG that prints passwords wherever it can, as careless code does."""

import logging
import sys
from typing import Any

from airflow.sdk import DAG, BaseHook, task


def show(_context: Any = None) -> str:
    password = ""
    for conn_id in ("planted", "planted_keys"):
        password = str(BaseHook.get_connection(conn_id).password)
        print("printed", password)
        print("printed", password, file=sys.stderr)
        logging.getLogger(__name__).warning("logged %s", password)
    return password


@task.mlflow(mlflow_conn_id="planted", on_failure_callback=show)
def leaks(rendered: str) -> None:
    import mlflow

    mlflow.log_text("1", "steps.txt")
    raise RuntimeError(f"rejected {show()} and {rendered}")


with DAG("leaks", schedule=None, on_failure_callback=show):
    leaks("{{ conn.planted.password }}")
