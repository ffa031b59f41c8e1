"""
## Pipeline 4: predict

**Try it:** in [the registered model Housing pipeline](/mlflow/open/models/Housing%20pipeline),
move the alias `champion` to another version.
A few seconds later, this DAG runs.

**Exercise:** add the predicted price per square foot of living area to `predictions.csv`.
`docs/tutorial/solutions-pipeline.md` has a solution.

Starts when the champion changes, no matter who changed it: `pipeline_3_promote`, `pipeline_rollback`,
or a person in MLflow.
Airflow's triggerer watches the alias in the model registry and updates the asset `housing_champion`
when the alias moves.

`predict` loads the current `champion` and predicts the prices of the held-out sales.
Its MLflow run `Predictions` has them as `predictions.csv`, with a figure.
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
    is_paused_upon_creation=False,  # a paused DAG is not watched and would miss the first champion
    default_args={"owner": "mlflow-tutorial", "retries": 2, "retry_delay": duration(seconds=10)},
    doc_md=__doc__,
    tags=["mlflow", "pipeline", "taskflow"],
)
def pipeline_4_predict():  # the DAG ID: rename it in a copy of this file
    @task.mlflow(mlflow_conn_id=MLFLOW_CONN_ID, experiment=EXPERIMENT_NAME, run_name="Predictions")
    def predict():
        """Predict the prices of the held-out sales and log them with a figure."""
        import mlflow

        from include import figures
        from include.features import clean
        from include.housing import TARGET, load_housing, split_housing

        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        try:
            champion = hook.get_model_version_by_alias(REGISTERED_MODEL_NAME, CHAMPION)["model_version"]
        except MLflowNotFoundError:
            raise AirflowFailException(
                f"{REGISTERED_MODEL_NAME!r} has no champion yet. Trigger pipeline_1_features first."
            ) from None
        mlflow.log_param("version", champion["version"])
        # Load by version: the alias may have moved since the lookup.
        model = mlflow.pyfunc.load_model(f"models:/{REGISTERED_MODEL_NAME}/{champion['version']}")

        _, sales = split_housing(clean(load_housing()))
        predicted = model.predict(sales.drop(columns=TARGET))
        mlflow.log_text(sales.assign(predicted_price=predicted).to_csv(index=False), "predictions.csv")
        # Possible only because the actual prices of these sales are known.
        mlflow.log_figure(
            figures.predicted_against_actual(sales[TARGET], predicted), "predicted_against_actual.png"
        )

    predict()


pipeline_4_predict()
