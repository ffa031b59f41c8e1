"""Apply a registered model to data, with an operator and with a hook."""

from airflow.sdk import dag, task

from mlflow_provider.hooks.pyfunc import MLflowPyfuncHook
from mlflow_provider.operators.pyfunc import ModelLoadAndPredictOperator
from mlflow_provider.operators.registry import RegisterModelOperator


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_predict():
    @task.mlflow(experiment="Examples")
    def train() -> str:
        import mlflow
        from sklearn.linear_model import LinearRegression

        model = LinearRegression().fit([[50.0], [100.0]], [100_000.0, 180_000.0])
        logged = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn", "skops"])
        return logged.model_uri

    @task
    def predict_with_the_hook(model_uri: str) -> list[float]:
        model = MLflowPyfuncHook("mlflow_default").get_conn().load_model(model_uri)
        return model.predict([[75.0]]).tolist()

    register = RegisterModelOperator(task_id="register", model_uri=train(), name="Example of a prediction")
    ModelLoadAndPredictOperator(
        task_id="predict", model_uri=register.output["model_uri"], data=[[75.0], [120.0]]
    )
    predict_with_the_hook(register.output["model_uri"])


example_mlflow_predict()
