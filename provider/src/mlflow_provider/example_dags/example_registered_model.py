"""Create, change, find and delete a registered model."""

from airflow.sdk import chain, dag

from mlflow_provider.operators.registry import (
    CreateRegisteredModelOperator,
    DeleteRegisteredModelOperator,
    GetRegisteredModelOperator,
    SearchRegisteredModelsOperator,
    SetRegisteredModelTagOperator,
    UpdateRegisteredModelOperator,
)

NAME = "Example of a registered model"


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_registered_model():
    chain(
        CreateRegisteredModelOperator(task_id="create", name=NAME, tags={"team": "sales"}, if_exists="skip"),
        UpdateRegisteredModelOperator(task_id="update", name=NAME, description="Prices of houses"),
        SetRegisteredModelTagOperator(task_id="set_tag", name=NAME, key="country", value="US"),
        GetRegisteredModelOperator(task_id="get", name=NAME),
        SearchRegisteredModelsOperator(task_id="search", filter_string="tags.team = 'sales'"),
        DeleteRegisteredModelOperator(task_id="delete", name=NAME, ignore_if_missing=True),
    )


example_mlflow_registered_model()
