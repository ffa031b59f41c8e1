"""What Airflow asks of every task when it reads a DAG file.

.. seealso:: https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/cluster-policies.html
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from airflow.policies import hookimpl


@hookimpl
def task_policy(task: Any) -> None:
    """Let ``@task.mlflow`` clean up after a process that was killed, beside the callbacks a task has.

    Not in the operator's ``__init__``: Airflow does not call it for a mapped task before the task runs.
    """
    if task.task_type != "MLflowDecoratedOperator":
        return
    from mlflow_provider.task_run import DEFAULT_CONN_ID, close_task_run

    arguments = task.partial_kwargs if task.is_mapped else vars(task)
    close = partial(close_task_run, mlflow_conn_id=arguments.get("mlflow_conn_id", DEFAULT_CONN_ID))
    for name in ("on_failure_callback", "on_retry_callback"):
        given = getattr(task, name) or []
        setattr(task, name, [*(given if isinstance(given, Sequence) else [given]), close])
