"""Register a model that a task logged, and copy the version to another registered model."""

from airflow.sdk import dag, task

from mlflow_provider.operators.registry import CopyModelVersionOperator, RegisterModelOperator


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_register_model():
    @task.mlflow(experiment="Examples")
    def train() -> str:
        import mlflow
        from sklearn.linear_model import LinearRegression

        model = LinearRegression().fit([[50.0], [100.0]], [100_000.0, 180_000.0])
        logged = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn", "skops"])
        return logged.model_uri

    register = RegisterModelOperator(
        task_id="register", model_uri=train(), name="Example in staging", alias="challenger"
    )
    CopyModelVersionOperator(
        task_id="copy",
        name="Example in staging",
        version=register.output["version"],
        to_name="Example in production",
    )


example_mlflow_register_model()
