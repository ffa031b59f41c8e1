"""A cluster policy: what Airflow does with every DAG that it parses.

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

    The DAG keeps its callbacks. A connection ID that only the task knows, because it is a template, the
    result of another task or a mapped argument, is skipped. Airflow's settings ``[mlflow] close_open_runs``
    and ``[mlflow] enabled`` disable this policy.
    """
    try:
        if all(conf.getboolean("mlflow", name, fallback=True) for name in ("enabled", "close_open_runs")):
            _add_callbacks(dag)
    except Exception:  # an error here would keep Airflow from importing the DAG
        log.warning("Open MLflow runs of DAG %s will not be closed.", dag.dag_id, exc_info=True)


def _add_callbacks(dag: Any) -> None:
    conn_ids = {_conn_id(task) for task in dag.tasks if _is_tracked(task)}
    for conn_id in sorted(filter(None, conn_ids)):
        from mlflow_provider.tracking.open_runs import close_open_runs

        close = partial(close_open_runs, mlflow_conn_id=conn_id)
        for state in ("success", "failure"):
            callbacks = getattr(dag, f"on_{state}_callback") or []
            callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
            if not any(_is_same(callback, close) for callback in callbacks):
                setattr(dag, f"on_{state}_callback", [*callbacks, close])
                setattr(dag, f"has_on_{state}_callback", True)


def _is_same(callback: Any, close: partial[None]) -> bool:
    is_partial = isinstance(callback, partial) and callback.func is close.func
    return is_partial and callback.keywords == close.keywords


def _is_tracked(task: Any) -> bool:
    operator_class = task.operator_class if task.is_mapped else type(task)
    # By name: DAG files without it should not have to import the operator.
    return any(base.__name__ == "MLflowDecoratedOperator" for base in operator_class.__mro__)


def _conn_id(task: Any) -> str | None:
    """Return the ID of a task's connection, or None if only the task will know it."""
    if not task.is_mapped:
        conn_id = task.mlflow_conn_id
    elif isinstance(task.expand_input.value, dict) and "mlflow_conn_id" not in task.expand_input.value:
        arguments = {**task.dag.default_args, **task.partial_kwargs}
        conn_id = arguments.get("mlflow_conn_id", "mlflow_default")
    else:
        conn_id = None  # one of several, or an argument of expand_kwargs() that another task may return
    is_literal = isinstance(conn_id, str) and "{{" not in conn_id and "{%" not in conn_id
    return conn_id if is_literal else None
