"""Operators for MLflow experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlflow_provider.links.mlflow import MLflowExperimentLink, push_experiment_link
from mlflow_provider.operators.base import MLflowBaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlflow_provider.hooks.client import Tags


class GetOrCreateExperimentOperator(MLflowBaseOperator):
    """Return the ID of an experiment, and create the experiment if it does not exist.

    :param name: name of the experiment (templated).
    :param artifact_location: artifact location of a new experiment (templated). With the server's default,
        workers need no credentials for the artifact store.
    :param tags: tags of a new experiment (templated).
    :return: the experiment ID, e.g. ``"1"``.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/rest-api.html#create-experiment
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "artifact_location", "tags")
    template_fields_renderers = {"tags": "json"}
    operator_extra_links = (MLflowExperimentLink(),)

    def __init__(
        self, *, name: str, artifact_location: str | None = None, tags: Tags | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.artifact_location = artifact_location
        self.tags = tags

    def execute(self, context: Context) -> str:
        experiment_id = self.hook.get_or_create_experiment(self.name, self.artifact_location, self.tags)
        if ti := context.get("ti"):
            push_experiment_link(ti, self.hook.connection, experiment_id)
        self.log_with_page(f"Experiment {self.name!r} has ID {experiment_id}", f"experiments/{experiment_id}")
        return experiment_id
