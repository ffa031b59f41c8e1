"""What Airflow asks of every DAG when it reads a DAG file.

.. seealso:: https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/cluster-policies.html
"""

from __future__ import annotations

from functools import partial
from typing import Any

from airflow.policies import hookimpl


@hookimpl
def dag_policy(dag: Any) -> None:
    """Let a DAG with ``@task.mlflow`` close the MLflow runs that were left open, when its DAG run ends.

    Beside the callbacks the DAG has. A connection ID that is a template is passed over.
    """
    conn_ids = {_conn_id(task) for task in dag.tasks if task.task_type == "MLflowDecoratedOperator"}
    for conn_id in sorted(conn_id for conn_id in conn_ids if "{{" not in conn_id):
        from mlflow_provider.stragglers import close_stragglers

        close = partial(close_stragglers, mlflow_conn_id=conn_id)
        for end in ("success", "failure"):
            given = getattr(dag, f"on_{end}_callback") or []
            callbacks = [*(given if isinstance(given, (list, tuple)) else [given]), close]
            setattr(dag, f"on_{end}_callback", callbacks)
            setattr(dag, f"has_on_{end}_callback", True)


def _conn_id(task: Any) -> str:
    return (
        task.partial_kwargs.get("mlflow_conn_id", "mlflow_default") if task.is_mapped else task.mlflow_conn_id
    )
