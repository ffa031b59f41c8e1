"""Move a model version to a stage. MLflow has deprecated stages: prefer aliases."""

from airflow.sdk import chain, dag

from mlflow_provider.operators.registry import (
    CreateModelVersionOperator,
    CreateRegisteredModelOperator,
    GetLatestModelVersionsOperator,
    TransitionModelVersionStageOperator,
)

NAME = "Example of a stage"


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_stage():
    create = CreateModelVersionOperator(task_id="create", name=NAME, source="s3://bucket/prices")

    chain(
        CreateRegisteredModelOperator(task_id="create_registered_model", name=NAME, if_exists="skip"),
        create,
        TransitionModelVersionStageOperator(
            task_id="move",
            name=NAME,
            version=create.output["version"],
            stage="Production",
            archive_existing_versions=True,
        ),
        GetLatestModelVersionsOperator(task_id="get_latest", name=NAME, stages=["Production"]),
    )


example_mlflow_stage()
