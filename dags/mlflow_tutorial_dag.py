"""
## MLflow from Airflow in three tasks

Scales the features of the Ames housing data and keeps track of it in MLflow. Each task shows one way
to use MLflow, all of them against the Airflow connection `mlflow_default`:

| task | way | choose it for |
|---|---|---|
| `create_experiment` | **hook** in a `@task` | what no operator does, and operators of your own |
| `scale_features` | **mlflow package** in a `@task` | everything inside training code |
| `create_registered_model` | **operator** | one common action |

**Try it:** press the play button, then look at [MLflow](/mlflow/open):

1. *Experiments > Housing* has a run `Scaler`: its parameters are the scaler's, its metrics the mean of each
   feature, its artifacts the features before and after scaling, its model the fitted scaler.
2. *Models > Housing* is the registered model, with the tags `model_type` and `data`.

Run it again: the experiment and the registered model are found, and a second `Scaler` run appears.
"""

from airflow.sdk import chain, dag, task
from pendulum import duration

from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators.registry import CreateRegisteredModelOperator

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"
REGISTERED_MODEL_NAME = "Housing"


@dag(
    schedule=None,  # runs when you press play
    catchup=False,
    default_args={"owner": "mlflow-tutorial", "retries": 2, "retry_delay": duration(seconds=10)},
    doc_md=__doc__,
    tags=["mlflow", "tutorial", "hook", "operator", "taskflow"],
)
def mlflow_tutorial_dag():
    @task
    def create_experiment() -> str:
        """Create the experiment, or find it, and hand on its ID."""
        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        return hook.get_or_create_experiment(EXPERIMENT_NAME)

    @task(multiple_outputs=True)
    def scale_features(experiment_id: str) -> dict[str, str]:
        """Scale the numeric features; log the scaler, the means and both tables to a run."""
        # Imported here, not above: Airflow reads this file again and again, and these take seconds.
        import mlflow
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        from include.housing import NUMERIC_FEATURES, load_housing

        features = load_housing()[NUMERIC_FEATURES]
        scaler = StandardScaler()
        # In a pipeline, because autolog passes over a transformer on its own.
        pipeline = make_pipeline(scaler).set_output(transform="pandas")

        with MLflowBaseHook(MLFLOW_CONN_ID).tracking():
            mlflow.sklearn.autolog(log_models=False)  # parameters and data set; the model comes below
            with mlflow.start_run(experiment_id=experiment_id, run_name="Scaler") as run:
                scaled = pipeline.fit_transform(features)
                means = zip(features.columns, scaler.mean_, strict=True)
                mlflow.log_metrics({f"mean_{feature}": mean for feature, mean in means})
                mlflow.log_text(features.to_csv(index=False), "features.csv")
                mlflow.log_text(scaled.to_csv(index=False), "scaled_features.csv")
                model = mlflow.sklearn.log_model(
                    scaler,
                    name="scaler",
                    signature=mlflow.models.infer_signature(features, scaled),
                    # Without these, MLflow finds them out by loading the model in a new process.
                    pip_requirements=mlflow.sklearn.get_default_pip_requirements(include_skops=True),
                )
        return {"mlflow_run_id": run.info.run_id, "model_uri": model.model_uri}

    create_registered_model = CreateRegisteredModelOperator(
        task_id="create_registered_model",
        mlflow_conn_id=MLFLOW_CONN_ID,
        name=REGISTERED_MODEL_NAME,
        tags={"model_type": "regression", "data": "housing"},
        if_exists="skip",  # so the DAG can run again
    )

    chain(scale_features(create_experiment()), create_registered_model)


mlflow_tutorial_dag()
