"""
## The doctor: do artifacts reach MLflow from where tasks run?

Run this DAG when a task cannot reach MLflow, or when something that was logged is missing.
It traces an artifact to MLflow and back: connection, host name, port, server, API, login, experiment,
artifact store, an artifact that is written and read back, and whether the next task can read it.
If a check fails, the task fails, and its log ends with the cause and the fix.
The doctor deletes everything that it creates in MLflow.

**Try it:** run this DAG and read the task's log.
Then enter a wrong port in the connection `mlflow_default` under **Admin > Connections**, and run it again.
Neither run leaves anything in [MLflow](/mlflow/open).

**With parameters:** name an `experiment` to examine it instead of a new one.
`close_open_runs` ends runs that are RUNNING in MLflow although their tasks have ended.

**Exercise:** examine each of your queues by adding their names to `QUEUES`: each queue gets a task.
`docs/tutorial/solutions.md` has a solution.
"""

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException
from pendulum import duration

MLFLOW_CONN_ID = "mlflow_default"
QUEUES = ["default"]


@dag(
    schedule=None,  # runs only when you trigger it
    # Retry only if the worker dies: a failed check would fail again.
    default_args={"owner": "mlflow-tutorial", "retries": 1, "retry_delay": duration(seconds=10)},
    params={
        "experiment": Param(
            None, type=["null", "string"], description="Name of the experiment; empty for a new one."
        ),
        "close_open_runs": Param(False, type="boolean", description="End runs whose tasks have ended."),
    },
    doc_md=__doc__,
    tags=["mlflow", "doctor"],
)
def mlflow_doctor():
    @task
    def examine(params: dict, ti=None) -> None:
        """Print the result of each check, and fail with the first finding."""
        from mlflow_provider import doctor

        failed = []
        for result in doctor.examine(MLFLOW_CONN_ID, task_instance=ti, **params):
            print(result)
            if result.status == "failed":
                failed.append(result.sentence)
        if failed:
            raise AirflowFailException(failed[0])

    for queue in QUEUES:
        examine.override(task_id=f"examine_{queue}", queue=queue)()


mlflow_doctor()
