"""
## The mlflow package: in a plain task, and in @task.mlflow

**Try it:** run this DAG, then open its newest DAG run and the tab **MLflow**.
It lists two runs, `Plain task` and `Tracked task`.
In [the experiment Housing](/mlflow/open/experiments/Housing), both have the same parameters, metrics and
data sets: autologging recorded all of them except `test_rmse`.

**Exercise:** let `train_model` raise an error at its end, and run the DAG again.
On the tab **MLflow**, which of the failed runs show the reason?
`docs/tutorial/solutions.md` has a solution.

Both tasks call `train_model`, which uses the `mlflow` package and knows nothing of Airflow.
They differ in who starts the run:

| | `@task` | `@task.mlflow` |
|---|---|---|
| server and login | `with hook.tracking():` | from the connection |
| run | `with mlflow.start_run():` | one per try |
| the function fails | `FAILED` | `FAILED`, with the reason |
| Airflow ends the task | `RUNNING`, at least until the DAG run ends | `KILLED`, with the reason |
| a retry | another run | another run, with the ID of the previous one |
| from Airflow to MLflow | the tab **MLflow** | also a button on the task |

Choose `@task.mlflow` where the task is one run.
Choose a plain task to decide yourself when runs start: none, or several.
"""

from airflow.sdk import dag, task
from pendulum import duration

from mlflow_provider.hooks.base import MLflowBaseHook

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"


@dag(
    schedule=None,  # runs only when you trigger it
    default_args={
        "owner": "mlflow-tutorial",
        "retries": 2,
        "retry_delay": duration(seconds=10),
        "mlflow_conn_id": MLFLOW_CONN_ID,
    },
    doc_md=__doc__,
    tags=["mlflow", "package", "taskflow"],
)
def mlflow_package_dag():  # the DAG ID: rename it in a copy of this file
    @task
    def plain_task() -> float:
        """Train inside a run that this function starts."""
        import mlflow

        # Without this block, MLflow logs to a file on the worker.
        with MLflowBaseHook(MLFLOW_CONN_ID).tracking():
            # By its ID: if two tasks create the experiment at once, MLflow makes it active in only one.
            experiment_id = mlflow.set_experiment(EXPERIMENT_NAME).experiment_id
            with mlflow.start_run(experiment_id=experiment_id, run_name="Plain task"):
                return train_model()

    @task.mlflow(experiment=EXPERIMENT_NAME, run_name="Tracked task")
    def tracked_task() -> float:
        """Train inside the run of the task."""
        return train_model()

    def train_model() -> float:
        """Fit a model of the sale price to the active run, and return its error on the test sales in USD."""
        # Imported here because Airflow parses this file often, and these imports take seconds.
        import mlflow
        from sklearn.linear_model import Ridge
        from sklearn.metrics import root_mean_squared_error

        from include.housing import NUMERIC_FEATURES, TARGET, load_housing, split_housing

        mlflow.sklearn.autolog(log_models=False)  # include.models.log_model logs models faster
        training, test = split_housing(load_housing())
        model = Ridge(alpha=10.0).fit(training[NUMERIC_FEATURES], training[TARGET])
        test_rmse = root_mean_squared_error(test[TARGET], model.predict(test[NUMERIC_FEATURES]))
        mlflow.log_metric("test_rmse", test_rmse)
        return test_rmse

    plain_task()
    tracked_task()


mlflow_package_dag()
