"""Track a plain task or an operator of another provider with ``task_run``."""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task

from mlflow_provider import close_open_runs, task_run
from mlflow_provider.links.mlflow import MLflowExperimentLink, MLflowRunLink


class TrackedBashOperator(BashOperator):
    """Run a command inside an MLflow run, and show buttons to it."""

    operator_extra_links = (MLflowRunLink(), MLflowExperimentLink())

    def execute(self, context):
        with task_run(experiment="Examples", context=context):
            return super().execute(context)


# The callback ends the runs of tasks that were killed. DAGs with @task.mlflow have it by default.
@dag(
    schedule=None,
    catchup=False,
    doc_md=__doc__,
    tags=["example", "mlflow"],
    on_success_callback=close_open_runs,
    on_failure_callback=close_open_runs,
)
def example_mlflow_task_run():
    @task
    def evaluate():
        import mlflow

        with task_run(experiment="Examples"):
            mlflow.log_metric("rmse", 24_500.0)

    # A program that the command starts finds its run in this variable.
    evaluate() >> TrackedBashOperator(task_id="report", bash_command="echo Logging to run $MLFLOW_RUN_ID")


example_mlflow_task_run()
