"""A promotion and the tasks that depend on it."""

from airflow.sdk import DAG, task

from mlflow_provider.operators.promotion import PromoteModelVersionOperator

with DAG("promotion", schedule=None, params={"name": "", "version": "", "wait": False}):

    @task
    def predict():
        print("predicting")

    @task(trigger_rule="all_done")
    def report():
        print("reporting")

    gate = PromoteModelVersionOperator(
        task_id="gate",
        name="{{ params.name }}",
        version="{{ params.version }}",
        metric="rmse",
        greater_is_better=False,
        wait_for_approval="{{ params.wait }}",
        retries=0,
    )
    gate >> predict() >> report()
