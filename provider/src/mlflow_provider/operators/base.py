"""What every MLflow operator shares."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.sdk import BaseOperator

from mlflow_provider.hooks.client import MLflowClientHook


class MLflowBaseOperator(BaseOperator):
    """Base of the MLflow operators.

    :param mlflow_conn_id: connection to the MLflow server (templated).
    """

    ui_color = "#e0f2fe"

    def __init__(self, *, mlflow_conn_id: str = MLflowClientHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mlflow_conn_id = mlflow_conn_id

    @cached_property
    def hook(self) -> MLflowClientHook:
        """The hook, made when it is first used."""
        return MLflowClientHook(mlflow_conn_id=self.mlflow_conn_id)

    def log_done(self, done: str, page: str) -> None:
        """Log what the operator did, and the address at which a browser shows it.

        :param page: e.g. ``experiments/1``.
        """
        self.log.info("%s: %s", done, self.hook.connection.page(page))
