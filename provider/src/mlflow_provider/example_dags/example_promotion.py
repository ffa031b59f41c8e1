"""Make a model version the champion if it is better than the current one."""

from airflow.sdk import dag, task

from mlflow_provider.operators.promotion import PromoteModelVersionOperator
from mlflow_provider.operators.registry import RegisterModelOperator


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_promotion():
    @task.mlflow(experiment="Examples")
    def train() -> str:
        import mlflow
        from sklearn.linear_model import LinearRegression

        model = LinearRegression().fit([[50.0], [100.0]], [100_000.0, 180_000.0])
        logged = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn", "skops"])
        mlflow.log_metric("rmse", abs(model.predict([[150.0]])[0] - 255_000.0), model_id=logged.model_id)
        return logged.model_uri

    register = RegisterModelOperator(task_id="register", model_uri=train(), name="Example of a promotion")
    PromoteModelVersionOperator(
        task_id="promote",
        name="Example of a promotion",
        version=register.output["version"],
        metric="rmse",
        greater_is_better=False,
        threshold=10_000.0,
        # Set this to True to let a person decide, under *Required Actions*.
        wait_for_approval=False,
    )


example_mlflow_promotion()
