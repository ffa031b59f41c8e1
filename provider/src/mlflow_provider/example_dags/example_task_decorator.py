"""Run a function in its own MLflow run; buttons on the task instance open the run and its experiment."""

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_task_decorator():
    @task.mlflow(experiment="Examples", run_name="Prices", tags={"team": "sales"})
    def train() -> str:
        import mlflow
        from sklearn.linear_model import Ridge

        area, price = [[50.0], [100.0], [150.0]], [100_000.0, 180_000.0, 260_000.0]
        model = Ridge(alpha=1.0).fit(area, price)
        mlflow.log_param("alpha", 1.0)
        mlflow.log_metric("r2", model.score(area, price))
        logged = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn", "skops"])
        return logged.model_uri

    train()


example_mlflow_task_decorator()
