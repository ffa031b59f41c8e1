"""Deploy a model and get predictions from the deployment."""

from airflow.sdk import Param, dag, task

from mlflow_provider.hooks.deployment import MLflowDeploymentHook
from mlflow_provider.operators.deployment import CreateDeploymentOperator, PredictOperator

# Any deployment target of MLflow or its plugins. SageMaker also needs target_conn_id, an AWS connection.
TARGET = "{{ params.target_uri }}"


@dag(
    schedule=None,
    catchup=False,
    doc_md=__doc__,
    tags=["example", "mlflow"],
    params={"target_uri": Param("sagemaker:/eu-central-1", type="string")},
)
def example_mlflow_deployment():
    @task.mlflow(experiment="Examples")
    def train() -> str:
        import mlflow
        from sklearn.linear_model import LinearRegression

        model = LinearRegression().fit([[50.0], [100.0]], [100_000.0, 180_000.0])
        logged = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn", "skops"])
        return logged.model_uri

    @task
    def list_deployments(params: dict | None = None) -> list[str]:
        client = MLflowDeploymentHook("mlflow_default", params["target_uri"]).get_conn()
        return [deployment["name"] for deployment in client.list_deployments()]

    deploy = CreateDeploymentOperator(
        task_id="deploy", name="prices", model_uri=train(), target_uri=TARGET, if_exists="skip"
    )
    predict = PredictOperator(
        task_id="predict", deployment_name="prices", inputs={"inputs": [[75.0]]}, target_uri=TARGET
    )
    deploy >> [predict, list_deployments()]


example_mlflow_deployment()
