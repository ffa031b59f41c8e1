"""
## The mlflow package in a @task: train here, evaluate there

Two tasks that may run on different machines, and a model that must get from one to the other:

1. `train` fits a model, logs it with its parameters and training scores, and hands on two short strings:
   the run ID and the model URI;
2. `evaluate` loads the model back **through the tracking server**, scores it on sales it has never
   seen, and logs the scores to the same run.

No file is handed over and no shared folder is needed. The worker holds no key of the artifact store
either: inside `hook.tracking()`, everything the `mlflow` package needs comes from the connection.

**Try it:** run the DAG, then open *Experiments > Housing* in [MLflow](/mlflow/open): the run
`Ridge` has scores named `training_...`, logged by `train`, and `test_...`, logged by `evaluate`.

**Exercise:** replace `Ridge` by another regressor of scikit-learn, run the DAG again, and sort the runs by
`test_rmse`.
"""

from airflow.sdk import dag, task
from pendulum import duration

from mlflow_provider.hooks.base import MLflowBaseHook

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"


@dag(
    schedule=None,  # runs when you press play
    catchup=False,
    default_args={"owner": "mlflow-tutorial", "retries": 2, "retry_delay": duration(seconds=10)},
    doc_md=__doc__,
    tags=["mlflow", "taskflow"],
)
def mlflow_task_dag():
    @task(multiple_outputs=True)
    def train() -> dict[str, str]:
        """Fit a model of the sale price on the training sales; log it to a run."""
        # Imported here, not above: Airflow reads this file again and again, and these take seconds.
        import mlflow
        from sklearn.compose import make_column_transformer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        from include.housing import (
            CATEGORICAL_FEATURES,
            NUMERIC_FEATURES,
            TARGET,
            load_housing,
            split_housing,
        )

        training, _ = split_housing(load_housing())
        features = training[NUMERIC_FEATURES + CATEGORICAL_FEATURES]
        pipeline = make_pipeline(
            make_column_transformer(
                (StandardScaler(), NUMERIC_FEATURES),
                (OneHotEncoder(handle_unknown="ignore"), CATEGORICAL_FEATURES),
            ),
            Ridge(),
        )

        with MLflowBaseHook(MLFLOW_CONN_ID).tracking():
            mlflow.set_experiment(EXPERIMENT_NAME)
            mlflow.sklearn.autolog(log_models=False)  # parameters and training scores; the model comes below
            with mlflow.start_run(run_name="Ridge") as run:
                pipeline.fit(features, training[TARGET])
                model = mlflow.sklearn.log_model(
                    pipeline,
                    name="model",
                    input_example=features.head(),
                    pip_requirements=mlflow.sklearn.get_default_pip_requirements(include_skops=True),
                )
        return {"mlflow_run_id": run.info.run_id, "model_uri": model.model_uri}

    @task
    def evaluate(mlflow_run_id: str, model_uri: str) -> dict[str, float]:
        """Score the model on the test sales; log the scores to the run that made it."""
        import mlflow
        from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

        from include.housing import TARGET, load_housing, split_housing

        _, test = split_housing(load_housing())
        with MLflowBaseHook(MLFLOW_CONN_ID).tracking():
            model = mlflow.pyfunc.load_model(model_uri)
            predicted = model.predict(test.drop(columns=TARGET))
            scores = {
                "test_rmse": root_mean_squared_error(test[TARGET], predicted),  # USD
                "test_mae": mean_absolute_error(test[TARGET], predicted),  # USD
                "test_r2": r2_score(test[TARGET], predicted),
            }
            with mlflow.start_run(run_id=mlflow_run_id):
                mlflow.log_metrics(scores)
        return scores

    trained = train()
    evaluate(trained["mlflow_run_id"], trained["model_uri"])


mlflow_task_dag()
