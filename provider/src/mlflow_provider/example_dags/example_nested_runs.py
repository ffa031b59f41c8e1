"""Train one model for each value of a parameter, with all runs under one parent run."""

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_nested_runs():
    @task.mlflow(experiment="Examples", nested=True)
    def train(alpha: float) -> float:
        import mlflow
        from sklearn.linear_model import Ridge

        area, price = [[50.0], [100.0], [150.0]], [100_000.0, 180_000.0, 260_000.0]
        score = Ridge(alpha).fit(area, price).score(area, price)
        mlflow.log_param("alpha", alpha)
        mlflow.log_metric("r2", score)
        return score

    train.expand(alpha=[0.1, 1.0, 10.0])


example_mlflow_nested_runs()
