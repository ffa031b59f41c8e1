"""What Airflow does with every DAG when it reads a DAG file.

.. seealso:: https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/cluster-policies.html
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from airflow.configuration import conf
from airflow.policies import hookimpl

log = logging.getLogger(__name__)


@hookimpl
def dag_policy(dag: Any) -> None:
    """Let a DAG with ``@task.mlflow`` end the MLflow runs that are still open when its DAG run ends.

    The callbacks that the DAG has stay. A connection ID that only the task knows, as a template, the result
    of another task or an argument to expand, is left out. Airflow's setting ``[mlflow] close_open_runs``
    switches this off.
    """
    try:
        if conf.getboolean("mlflow", "close_open_runs", fallback=True):
            _add_callbacks(dag)
    except Exception:  # an error here would keep Airflow from importing the DAG
        log.warning("Open MLflow runs of DAG %s will not be closed.", dag.dag_id, exc_info=True)


def _add_callbacks(dag: Any) -> None:
    conn_ids = {_conn_id(task) for task in dag.tasks if _is_tracked(task)}
    for conn_id in sorted(filter(None, conn_ids)):
        from mlflow_provider.tracking.open_runs import close_open_runs

        close = partial(close_open_runs, mlflow_conn_id=conn_id)
        for end in ("success", "failure"):
            given = getattr(dag, f"on_{end}_callback") or []
            callbacks = [*(given if isinstance(given, (list, tuple)) else [given]), close]
            setattr(dag, f"on_{end}_callback", callbacks)
            setattr(dag, f"has_on_{end}_callback", True)


def _is_tracked(task: Any) -> bool:
    operator_class = task.operator_class if task.is_mapped else type(task)
    # By name: DAG files without it should not have to import the operator.
    return any(base.__name__ == "MLflowDecoratedOperator" for base in operator_class.__mro__)


def _conn_id(task: Any) -> str | None:
    """Return the ID of a task's connection, or None where only the task will know it."""
    if not task.is_mapped:
        conn_id = task.mlflow_conn_id
    elif isinstance(task.expand_input.value, dict) and "mlflow_conn_id" not in task.expand_input.value:
        given = {**task.dag.default_args, **task.partial_kwargs}
        conn_id = given.get("mlflow_conn_id", "mlflow_default")
    else:
        conn_id = None  # one of several, or of expand_kwargs(), whose arguments may come from another task
    is_known = isinstance(conn_id, str) and "{{" not in conn_id and "{%" not in conn_id
    return conn_id if is_known else None
