"""Create an experiment unless it exists; a button on the task instance opens it."""

from airflow.sdk import dag

from mlflow_provider.operators.experiment import GetOrCreateExperimentOperator


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_experiment():
    GetOrCreateExperimentOperator(
        task_id="create_experiment", name="Examples of {{ dag.dag_id }}", tags={"team": "sales"}
    )


example_mlflow_experiment()
