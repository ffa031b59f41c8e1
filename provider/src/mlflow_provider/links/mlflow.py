"""The buttons on a task instance that lead to MLflow's pages.

A task pushes an address as soon as it knows it, under the key at which Airflow looks for a link. So the
button works while the task still runs, and also if it is killed.
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
        """Return the address that the task pushed, or an empty one, for which Airflow shows no button."""
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    def push(self, ti: Any, address: str) -> None:
        """Give a task instance this button."""
        ti.xcom_push(self.xcom_key, address)
        # At the end Airflow would ask for each link, and push it again. The task is this process's own. An
        # operator may have its links as a property: those are pushed again.
        with suppress(AttributeError):
            ti.task.operator_extra_links = [
                link for link in ti.task.operator_extra_links if link.xcom_key != self.xcom_key
            ]


class MLflowRunLink(_MLflowLink):
    """Button to the run of a task instance."""

    name = "MLflow run"
    xcom_key = "mlflow_run_link"


class MLflowExperimentLink(_MLflowLink):
    """Button to the experiment that a task instance used."""

    name = "MLflow experiment"
    xcom_key = "mlflow_experiment_link"


class MLflowModelVersionLink(_MLflowLink):
    """Button to the model version that a task instance made, found or changed."""

    name = "MLflow model version"
    xcom_key = "mlflow_model_version_link"


def push_run_links(ti: Any, connection: MLflowConnection, experiment_id: str, run_id: str) -> None:
    """Give a task instance its buttons to a run and the run's experiment."""
    push_experiment_link(ti, connection, experiment_id)
    MLflowRunLink().push(ti, connection.page(f"experiments/{experiment_id}/runs/{run_id}"))


def push_experiment_link(ti: Any, connection: MLflowConnection, experiment_id: str) -> None:
    """Give a task instance its button to an experiment."""
    MLflowExperimentLink().push(ti, connection.page(f"experiments/{experiment_id}"))


def push_model_version_link(ti: Any, connection: MLflowConnection, name: str, version: str) -> None:
    """Give a task instance its button to a model version."""
    MLflowModelVersionLink().push(ti, connection.page(model_page(name, version)))


def model_page(name: str, version: str | int | None = None) -> str:
    """Return the page of a registered model, or of a version of it, for :meth:`MLflowConnection.page`."""
    page = f"models/{quote(name, safe='')}"
    return page if version is None else f"{page}/versions/{version}"
