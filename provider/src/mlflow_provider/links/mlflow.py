"""Links from a task instance to MLflow's pages.

A task pushes an address as an XCom as soon as the address is known, under the key where Airflow looks for a
link. The link therefore works while the task runs, and after the task was killed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import XCom
from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from mlflow_provider.server.connection import MLflowConnection


class _MLflowLink(BaseOperatorLink):
    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address that the task pushed, or an empty string, for which Airflow shows no link."""
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    def push(self, ti: Any, address: str) -> None:
        """Push the address of this link."""
        ti.xcom_push(self.xcom_key, address)
        # Airflow pushes each link of the task again when the task ends, which takes two requests. An operator
        # whose links are a property keeps them.
        with suppress(AttributeError):
            ti.task.operator_extra_links = [
                link for link in ti.task.operator_extra_links if link.xcom_key != self.xcom_key
            ]


class MLflowRunLink(_MLflowLink):
    """Link to the run of a task instance."""

    name = "MLflow run"
    xcom_key = "mlflow_run_link"


class MLflowExperimentLink(_MLflowLink):
    """Link to the experiment that a task instance used."""

    name = "MLflow experiment"
    xcom_key = "mlflow_experiment_link"


class MLflowModelVersionLink(_MLflowLink):
    """Link to the model version that a task instance created, found or changed."""

    name = "MLflow model version"
    xcom_key = "mlflow_model_version_link"


def push_run_links(ti: Any, connection: MLflowConnection, experiment_id: str, run_id: str) -> None:
    """Push the links of a task instance to a run and the run's experiment."""
    push_experiment_link(ti, connection, experiment_id)
    MLflowRunLink().push(ti, connection.page(f"experiments/{experiment_id}/runs/{run_id}"))


def push_experiment_link(ti: Any, connection: MLflowConnection, experiment_id: str) -> None:
    """Push the link of a task instance to an experiment."""
    MLflowExperimentLink().push(ti, connection.page(f"experiments/{experiment_id}"))


def push_model_version_link(ti: Any, connection: MLflowConnection, name: str, version: str) -> None:
    """Push the link of a task instance to a model version."""
    MLflowModelVersionLink().push(ti, connection.page(model_page(name, version)))


def model_page(name: str, version: str | int | None = None) -> str:
    """Return the page of a registered model or one of its versions, for :meth:`MLflowConnection.page`."""
    page = f"models/{quote(name, safe='')}"
    return page if version is None else f"{page}/versions/{version}"
