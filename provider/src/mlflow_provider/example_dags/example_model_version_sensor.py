"""Wait for a version of a registered model, without a worker slot."""

from airflow.sdk import chain, dag, task

from mlflow_provider.operators.registry import CreateModelVersionOperator, CreateRegisteredModelOperator
from mlflow_provider.sensors.registry import MLflowModelVersionSensor

NAME = "Example of a sensor"


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_model_version_sensor():
    @task
    def read_version(model_uri: str):
        print(model_uri)

    # In practice, another DAG or a person creates the version.
    create = CreateModelVersionOperator(task_id="create", name=NAME, source="s3://bucket/prices")
    wait = MLflowModelVersionSensor(task_id="wait", name=NAME, deferrable=True, poke_interval=10)

    chain(
        CreateRegisteredModelOperator(task_id="create_registered_model", name=NAME, if_exists="skip"),
        create,
        wait,
        read_version(wait.output["model_uri"]),
    )


example_mlflow_model_version_sensor()
