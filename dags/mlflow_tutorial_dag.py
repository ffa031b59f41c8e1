"""
## MLflow from Airflow: the tutorial

**Try it:** press the play button. Then open [MLflow](/mlflow/open), *Model training*:

1. *Experiments > Housing* has a run `Scaler`: its metrics are the mean of each feature, its artifacts
   the features before and after scaling, its model the fitted scaler.
2. *Model registry > Housing* is the registered model, with the tags `model_type` and `data`. Version 1
   is that scaler.

Run it again: experiment and registered model are found, and there is a second run, and a version 2.

**Exercise:** give the registered model a third tag, `team`, with a `SetRegisteredModelTagOperator`.

Each task shows one of three ways to use MLflow, all against the Airflow connection `mlflow_default`:

| task | way | choose it for |
|---|---|---|
| `create_experiment` | **hook** in a `@task` | what no operator does, and operators of your own |
| `scale_features` | **mlflow package** in a `@task.mlflow` | everything inside training code |
| `create_registered_model`, `register_scaler` | **operator** | one common action |
"""

from airflow.sdk import chain, dag, task
from pendulum import duration

from mlflow_provider.exceptions import MLflowAlreadyExistsError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators.registry import CreateRegisteredModelOperator, RegisterModelOperator

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"
REGISTERED_MODEL_NAME = "Housing"


@dag(
    schedule=None,  # runs when you press play
    default_args={
        "owner": "mlflow-tutorial",
        "retries": 2,
        "retry_delay": duration(seconds=10),
        "mlflow_conn_id": MLFLOW_CONN_ID,  # for every operator that takes one
    },
    doc_md=__doc__,
    tags=["mlflow", "tutorial", "hook", "operator", "taskflow"],
)
def mlflow_tutorial_dag():  # the DAG's ID: a copy of this file needs another
    @task
    def create_experiment() -> str:
        """Create the experiment by a call of MLflow's REST API, and hand on its ID."""
        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        try:
            return hook.call("POST", "experiments/create", {"name": EXPERIMENT_NAME})["experiment_id"]
        except MLflowAlreadyExistsError:  # the DAG has run before
            found = hook.call("GET", "experiments/get-by-name", {"experiment_name": EXPERIMENT_NAME})
            return found["experiment"]["experiment_id"]

    @task.mlflow(experiment=EXPERIMENT_NAME, run_name="Scaler")
    def scale_features() -> str:
        """Scale the numeric features; log the means, both tables and the scaler, and hand on its URI."""
        # Imported here, not above: Airflow reads this file again and again, and these take seconds.
        import mlflow
        from sklearn.preprocessing import StandardScaler

        from include.housing import NUMERIC_FEATURES, load_housing
        from include.models import log_model

        features = load_housing()[NUMERIC_FEATURES]
        scaler = StandardScaler().set_output(transform="pandas")
        scaled = scaler.fit_transform(features)

        mlflow.log_metrics({f"mean_{name}": mean for name, mean in features.mean().items()})
        mlflow.log_text(features.to_csv(index=False), "features.csv")
        mlflow.log_text(scaled.to_csv(index=False), "scaled_features.csv")
        return log_model(scaler, features, name="scaler").model_uri

    create_registered_model = CreateRegisteredModelOperator(
        task_id="create_registered_model",
        name=REGISTERED_MODEL_NAME,
        tags={"model_type": "regression", "data": "housing"},
        if_exists="skip",  # so the DAG can run again
    )

    model_uri = scale_features()
    register_scaler = RegisterModelOperator(
        task_id="register_scaler", name=REGISTERED_MODEL_NAME, model_uri=model_uri
    )

    chain(create_experiment(), model_uri, create_registered_model, register_scaler)


mlflow_tutorial_dag()
