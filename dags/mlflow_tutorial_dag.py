"""
## MLflow from Airflow: the tutorial

**Try it:** trigger this DAG. MLflow then has:

1. [the experiment Housing](/mlflow/open/experiments/Housing) with a run `Scaler`.
   Its metrics are the mean of each feature, its artifacts the features before and after scaling,
   and its model the fitted scaler;
2. [the registered model Housing](/mlflow/open/models/Housing), with the tags `model_type` and `data`.
   Version 1 is the scaler.

Run the DAG again: it reuses the experiment and the registered model, and adds a second run and version 2.

**Exercise:** give the registered model a third tag, `team`, with a `SetRegisteredModelTagOperator`.
`docs/tutorial/solutions.md` has a solution, and links all arguments.

Each task shows one of three ways to use MLflow, all with the Airflow connection `mlflow_default`:

| task | way | choose it for |
|---|---|---|
| `create_experiment` | **hook** in a `@task` | anything without an operator, and your own operators |
| `scale_features` | **mlflow package** in a `@task` | everything inside training code |
| `create_registered_model`, `register_scaler` | **operator** | one common action |

`mlflow_package_dag` shows what `@task.mlflow` adds to `scale_features`.
"""

from airflow.sdk import chain, dag, task
from pendulum import duration

from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators.registry import CreateRegisteredModelOperator, RegisterModelOperator

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"
ARTIFACT_LOCATION = None  # or "s3://my-bucket", for a new experiment and workers with the bucket's keys
REGISTERED_MODEL_NAME = "Housing"


@dag(
    schedule=None,  # runs only when you trigger it
    default_args={
        "owner": "mlflow-tutorial",
        "retries": 2,
        "retry_delay": duration(seconds=10),
        "mlflow_conn_id": MLFLOW_CONN_ID,  # for every task that takes one
    },
    doc_md=__doc__,
    tags=["mlflow", "tutorial", "hook", "operator", "taskflow"],
)
def mlflow_tutorial_dag():  # the DAG ID: rename it in a copy of this file
    @task
    def create_experiment() -> str:
        """Create the experiment if it does not exist, and return its ID."""
        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        return hook.get_or_create_experiment(EXPERIMENT_NAME, artifact_location=ARTIFACT_LOCATION)

    @task
    def scale_features(experiment_id: str) -> str:
        """Scale the numeric features, log means, tables and scaler, and return the scaler's URI."""
        # Imported here because Airflow parses this file often, and these imports take seconds.
        import mlflow
        from sklearn.preprocessing import StandardScaler

        from include.housing import NUMERIC_FEATURES, load_housing
        from include.models import log_model

        features = load_housing()[NUMERIC_FEATURES]
        scaler = StandardScaler().set_output(transform="pandas")
        scaled = scaler.fit_transform(features)

        hook = MLflowBaseHook(mlflow_conn_id=MLFLOW_CONN_ID)
        with hook.tracking(), mlflow.start_run(experiment_id=experiment_id, run_name="Scaler"):
            mlflow.log_metrics({f"mean_{name}": mean for name, mean in features.mean().items()})
            mlflow.log_text(features.to_csv(index=False), "features.csv")
            mlflow.log_text(scaled.to_csv(index=False), "scaled_features.csv")
            return log_model(scaler, features, name="scaler").model_uri

    create_registered_model = CreateRegisteredModelOperator(
        task_id="create_registered_model",
        name=REGISTERED_MODEL_NAME,
        tags={"model_type": "regression", "data": "housing"},
        if_exists="skip",  # so that the DAG can run again
    )

    model_uri = scale_features(create_experiment())
    register_scaler = RegisterModelOperator(
        task_id="register_scaler", name=REGISTERED_MODEL_NAME, model_uri=model_uri
    )

    chain(model_uri, create_registered_model, register_scaler)


mlflow_tutorial_dag()
