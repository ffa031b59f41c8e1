"""Wait for a champion in your own deferrable operator, which gets a button to the model version."""

from airflow.sdk import BaseOperator, chain, dag

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.links.mlflow import MLflowModelVersionLink, push_model_version_link
from mlflow_provider.operators.registry import (
    CreateModelVersionOperator,
    CreateRegisteredModelOperator,
    SetRegisteredModelAliasOperator,
)
from mlflow_provider.triggers.registry import MLflowModelVersionTrigger

NAME = "Example of a trigger"


class WaitForChampionOperator(BaseOperator):
    """Return the number of the champion."""

    operator_extra_links = (MLflowModelVersionLink(),)

    def execute(self, context):
        self.defer(
            trigger=MLflowModelVersionTrigger(NAME, alias="champion", poll_interval=10),
            method_name="execute_complete",
        )

    def execute_complete(self, context, event):
        if "error" in event:
            raise MLflowProviderError(event["error"])
        push_model_version_link(context["ti"], MLflowBaseHook().connection, NAME, event["version"])
        return event["version"]


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_model_version_trigger():
    # In practice, another DAG or a person creates the champion.
    create = CreateModelVersionOperator(task_id="create", name=NAME, source="s3://bucket/prices")

    chain(
        CreateRegisteredModelOperator(task_id="create_registered_model", name=NAME, if_exists="skip"),
        create,
        SetRegisteredModelAliasOperator(
            task_id="set_alias", name=NAME, alias="champion", version=create.output["version"]
        ),
        WaitForChampionOperator(task_id="wait"),
    )


example_mlflow_model_version_trigger()
