"""Create a model version from files in an artifact store, change it, find it and delete it."""

from airflow.sdk import chain, dag

from mlflow_provider.operators.registry import (
    CreateModelVersionOperator,
    CreateRegisteredModelOperator,
    DeleteModelVersionOperator,
    GetModelVersionOperator,
    SearchModelVersionsOperator,
    SetModelVersionTagOperator,
    UpdateModelVersionOperator,
)

NAME = "Example of a model version"


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_model_version():
    create = CreateModelVersionOperator(task_id="create", name=NAME, source="s3://bucket/prices")
    version = {"name": NAME, "version": create.output["version"]}

    chain(
        CreateRegisteredModelOperator(task_id="create_registered_model", name=NAME, if_exists="skip"),
        create,
        UpdateModelVersionOperator(task_id="update", **version, description="Trained by another team"),
        SetModelVersionTagOperator(task_id="set_tag", **version, key="validated", value="yes"),
        GetModelVersionOperator(task_id="get", **version),
        SearchModelVersionsOperator(
            task_id="search", filter_string=f"name = '{NAME}'", order_by=["version_number DESC"]
        ),
        DeleteModelVersionOperator(task_id="delete", **version),
    )


example_mlflow_model_version()
