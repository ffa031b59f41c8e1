"""Use MLflow's REST API and the ``mlflow`` package with an Airflow connection."""

from airflow.sdk import dag, task

from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.hooks.client import MLflowClientHook


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_hooks():
    @task
    def log_figures() -> str:
        with MLflowBaseHook("mlflow_default").tracking():
            import mlflow

            mlflow.set_experiment("Examples")
            with mlflow.start_run(run_name="Figures") as run:
                mlflow.log_metric("rmse", 24_500.0)
        return run.info.run_id

    @task
    def read_figures(mlflow_run_id: str):
        hook = MLflowClientHook("mlflow_default")
        run = hook.call("GET", "runs/get", {"run_id": mlflow_run_id})["run"]
        print(run["data"]["metrics"])

    read_figures(log_figures())


example_mlflow_hooks()
