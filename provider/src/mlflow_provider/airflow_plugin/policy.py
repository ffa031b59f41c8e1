"""What Airflow does with every DAG when it reads a DAG file.

.. seealso:: https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/cluster-policies.html
"""

from __future__ import annotations

from functools import partial
from typing import Any

from airflow.policies import hookimpl


@hookimpl
def dag_policy(dag: Any) -> None:
    """Let a DAG with ``@task.mlflow`` end the MLflow runs that are still open when its DAG run ends.

    The callbacks that the DAG has stay. A connection ID that is a template is left out.
    """
    conn_ids = {_conn_id(task) for task in dag.tasks if task.task_type == "MLflowDecoratedOperator"}
    for conn_id in sorted(conn_id for conn_id in conn_ids if "{{" not in conn_id):
        from mlflow_provider.tracked_run.open_runs import close_open_runs

        close = partial(close_open_runs, mlflow_conn_id=conn_id)
        for end in ("success", "failure"):
            given = getattr(dag, f"on_{end}_callback") or []
            callbacks = [*(given if isinstance(given, (list, tuple)) else [given]), close]
            setattr(dag, f"on_{end}_callback", callbacks)
            setattr(dag, f"has_on_{end}_callback", True)


def _conn_id(task: Any) -> str:
    return (
        task.partial_kwargs.get("mlflow_conn_id", "mlflow_default") if task.is_mapped else task.mlflow_conn_id
    )
