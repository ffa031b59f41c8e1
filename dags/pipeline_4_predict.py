"""
## Pipeline 4: predict

**Try it:** in [MLflow](/mlflow/open), open *Model training > Model registry > Housing pipeline*, and
give the alias `champion` to another version: seconds later, this DAG runs.

**Exercise:** add the predicted price of a square foot of living area to `predictions.csv`.

Starts when the champion changed, whoever changed it: `pipeline_3_promote`, `pipeline_rollback`, or a
person in MLflow. Airflow's triggerer watches the alias in the model registry, and updates the asset
`housing_champion` when it has moved.

`predict` loads the version behind `champion`, whichever that is today, and predicts the
prices of the held-out sales. Its MLflow run `Predictions` has them as `predictions.csv`, with a figure.
"""

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException
from pendulum import duration

from include.assets import CHAMPION, CHAMPION_CHANGED, EXPERIMENT_NAME, REGISTERED_MODEL_NAME
from mlflow_provider.exceptions import MLflowNotFoundError
from mlflow_provider.hooks.client import MLflowClientHook

MLFLOW_CONN_ID = "mlflow_default"


@dag(
    schedule=CHAMPION_CHANGED,
    is_paused_upon_creation=False,  # nobody watches while it is paused, and the first champion would go by
    default_args={"owner": "mlflow-tutorial", "retries": 2, "retry_delay": duration(seconds=10)},
    doc_md=__doc__,
    tags=["mlflow", "pipeline", "taskflow"],
)
def pipeline_4_predict():  # the DAG's ID: a copy of this file needs another
    @task.mlflow(mlflow_conn_id=MLFLOW_CONN_ID, experiment=EXPERIMENT_NAME, run_name="Predictions")
    def predict():
        """Predict the prices of the held-out sales, and log them with a figure."""
        import mlflow

        from include import figures
        from include.features import clean
        from include.housing import TARGET, load_housing, split_housing

        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        try:
            found = hook.get_model_version_by_alias(REGISTERED_MODEL_NAME, CHAMPION)["model_version"]
        except MLflowNotFoundError:
            raise AirflowFailException(
                f"{REGISTERED_MODEL_NAME!r} has no champion yet. Trigger pipeline_1_features first."
            ) from None
        mlflow.log_param("version", found["version"])
        # Not by the alias, which may have moved since: what is loaded is what is logged.
        model = mlflow.pyfunc.load_model(f"models:/{REGISTERED_MODEL_NAME}/{found['version']}")

        _, sales = split_housing(clean(load_housing()))
        predicted = model.predict(sales.drop(columns=TARGET))
        mlflow.log_text(sales.assign(predicted_price=predicted).to_csv(index=False), "predictions.csv")
        # Of these sales the price is known; of new ones there would be no such figure.
        mlflow.log_figure(
            figures.predicted_against_actual(sales[TARGET], predicted), "predicted_against_actual.png"
        )

    predict()


pipeline_4_predict()
