"""Mistakes that lose artifacts only where each task has its own process, or that need a connection."""

import os

from airflow.sdk import DAG, task

training = {}
os.environ["AIRFLOW_CONN_DATABRICKS"] = "mlflow://ada:secret@workspace.cloud.databricks.com/"

with DAG("global_variable", schedule=None):

    @task.mlflow
    def train():
        import mlflow

        training["run_id"] = mlflow.active_run().info.run_id

    @task.mlflow
    def predict():
        import mlflow

        mlflow.pyfunc.load_model(f"runs:/{training.get('run_id')}/model")

    train() >> predict()

with DAG("databricks_experiment", schedule=None):

    @task.mlflow(mlflow_conn_id="databricks")
    def train_on_databricks():
        pass

    train_on_databricks()
