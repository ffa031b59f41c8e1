"""
## The doctor: do artifacts reach MLflow from where tasks run?

Run this DAG when something logged to MLflow is not there, or a task cannot reach it. It follows the way of
an artifact to MLflow and back: connection, host name, port, server, API, login, experiment, artifact store,
an artifact that is written and read back, and what the next task sees of it. Where that way ends, the task
fails, and its log ends with the cause and what to do about it. What the doctor makes in MLflow, it deletes.

**Try it:** run it, and read the task's log. Then enter a wrong port in the connection `mlflow_default` under
*Admin > Connections*, and run it again. [MLflow](/mlflow/open) shows nothing of either.

**With parameters:** name an `experiment` to examine that one instead of a new one. `close_open_runs` ends
runs that MLflow shows as RUNNING though their tasks have ended.

**Exercise:** let it examine each of your queues by adding their names to `QUEUES`: each gets a task.
"""

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException
from pendulum import duration

MLFLOW_CONN_ID = "mlflow_default"
QUEUES = ["default"]


@dag(
    schedule=None,  # runs when you press play
    # A worker that dies is tried again; what the doctor finds would be the same a second time.
    default_args={"owner": "mlflow-tutorial", "retries": 1, "retry_delay": duration(seconds=10)},
    params={
        "experiment": Param(None, type=["null", "string"], description="Its name; empty for a new one."),
        "close_open_runs": Param(False, type="boolean", description="End runs whose tasks have ended."),
    },
    doc_md=__doc__,
    tags=["mlflow", "doctor"],
)
def mlflow_doctor():
    def run_checks(params: dict, ti=None) -> None:
        """Print what each check finds; fail with what the first of them says is wrong."""
        from mlflow_provider.doctor import examine

        failed = []
        for result in examine(MLFLOW_CONN_ID, task_instance=ti, **params):
            print(result)
            if result.status == "failed":
                failed.append(result.sentence)
        if failed:
            raise AirflowFailException(failed[0])

    for queue in QUEUES:
        task(run_checks, task_id=f"examine_{queue}", queue=queue)()


mlflow_doctor()
