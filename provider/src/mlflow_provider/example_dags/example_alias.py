"""Set an alias, find the version behind it, and delete it; a button opens the version in MLflow."""

from airflow.sdk import chain, dag

from mlflow_provider.operators.registry import (
    CreateModelVersionOperator,
    CreateRegisteredModelOperator,
    DeleteRegisteredModelAliasOperator,
    GetModelVersionByAliasOperator,
    SetRegisteredModelAliasOperator,
)

NAME = "Example of an alias"


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_alias():
    create = CreateModelVersionOperator(
        task_id="create", name=NAME, source="s3://bucket/prices", if_exists="skip"
    )

    chain(
        CreateRegisteredModelOperator(task_id="create_registered_model", name=NAME, if_exists="skip"),
        create,
        SetRegisteredModelAliasOperator(
            task_id="set_alias", name=NAME, alias="challenger", version=create.output["version"]
        ),
        GetModelVersionByAliasOperator(task_id="get", name=NAME, alias="challenger"),
        DeleteRegisteredModelAliasOperator(task_id="delete_alias", name=NAME, alias="challenger"),
    )


example_mlflow_alias()
