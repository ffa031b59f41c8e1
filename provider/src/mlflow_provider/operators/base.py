"""What every MLflow operator shares."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Any

from airflow.sdk import BaseOperator

from mlflow_provider.hooks.client import MLflowClientHook


class MLflowBaseOperator(BaseOperator):
    """Base of the MLflow operators.

    :param mlflow_conn_id: connection to the MLflow server (templated).
    """

    ui_color = "#e0f2fe"
    # Templated fields that Airflow neither shows nor stores: a user's data may be large, or private.
    unshown_fields: Collection[str] = ()

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

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        """Render the templates of this task; of a mapped one Airflow calls this method and no other.

        What is in ``template_fields`` afterwards, Airflow stores, and shows as *Rendered Templates*.
        """
        super()._do_render_template_fields(*args, **kwargs)
        self.template_fields = [name for name in self.template_fields if name not in self.unshown_fields]
