"""
## @task.mlflow: a task with an MLflow run of its own

**Try it:** run the DAG. On the task instance `evaluate`, *Details > Extra Links > MLflow run* opens its
run: the errors on sales that the model has never seen, three figures as artifacts, and in its
description the way back here. The tab *MLflow* of the DAG run lists the runs of both tasks.

Run it again and switch on *Let the first try fail*: the run of the first try is *Failed*, its tag
`airflow.reason` says why, and the run of the second try has its ID in the tag `airflow.retry_of`.

**Exercise:** replace `Ridge` by another regressor of scikit-learn, such as `RandomForestRegressor`, and
run the DAG again. In [MLflow](/mlflow/open), *Model training > Experiments > Housing > Models* compares
the models: sort them by `test_rmse`.

The tasks may run on different machines. `train` hands on one short string, the ID of the model that it
logged, and `evaluate` loads the model **through the tracking server**: no file is handed over, no folder
is shared, and no worker holds a key of the artifact store.
"""

from airflow.sdk import Param, dag, task
from pendulum import duration

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"
DATASET_NAME = "Ames housing"


@dag(
    schedule=None,  # runs when you press play
    default_args={
        "owner": "mlflow-tutorial",
        "retries": 2,
        "retry_delay": duration(seconds=10),
        "mlflow_conn_id": MLFLOW_CONN_ID,
    },
    params={
        "fail": Param(
            False,
            type="boolean",
            title="Let the first try fail",
            description="The task train is tried again ten seconds later.",
        )
    },
    doc_md=__doc__,
    tags=["mlflow", "taskflow"],
)
def mlflow_task_dag():  # the DAG's ID: a copy of this file needs another
    @task.mlflow(experiment=EXPERIMENT_NAME, run_name="Train")
    def train(params, ti) -> str:
        """Fit a model of the sale price on the training sales; log it, and hand on its ID."""
        # Imported here, not above: Airflow reads this file again and again, and these take seconds.
        import mlflow
        from sklearn.compose import make_column_transformer
        from sklearn.linear_model import Ridge
        from sklearn.metrics import root_mean_squared_error
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        from include.housing import (
            CATEGORICAL_FEATURES,
            NUMERIC_FEATURES,
            TARGET,
            load_housing,
            split_housing,
        )
        from include.models import log_model

        training, _ = split_housing(load_housing())
        features, prices = training.drop(columns=TARGET), training[TARGET]
        regressor = Ridge(alpha=10.0)
        mlflow.log_input(mlflow.data.from_pandas(training, targets=TARGET, name=DATASET_NAME), "training")
        mlflow.log_param("regressor", regressor)  # with its parameters, but for those left at the default
        if params["fail"] and ti.try_number == 1:
            raise RuntimeError("The first try was told to fail.")

        encoder = make_column_transformer(
            (StandardScaler(), NUMERIC_FEATURES),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), CATEGORICAL_FEATURES),
        )
        pipeline = make_pipeline(encoder, regressor).fit(features, prices)
        model_id = log_model(pipeline, features, name=type(regressor).__name__).model_id
        training_rmse = root_mean_squared_error(prices, pipeline.predict(features))  # USD
        mlflow.log_metric("training_rmse", training_rmse, model_id=model_id)
        return model_id

    @task.mlflow(experiment=EXPERIMENT_NAME, run_name="Evaluate")
    def evaluate(model_id: str) -> dict[str, float]:
        """Log the model's errors on the test sales, and figures of them."""
        import mlflow
        from sklearn.inspection import permutation_importance
        from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

        from include import figures
        from include.housing import TARGET, load_housing, split_housing

        _, test = split_housing(load_housing())
        features, actual = test.drop(columns=TARGET), test[TARGET]
        dataset = mlflow.data.from_pandas(test, targets=TARGET, name=DATASET_NAME)
        mlflow.log_input(dataset, "test")

        model = mlflow.sklearn.load_model(f"models:/{model_id}")
        predicted = model.predict(features)
        scores = {
            "test_rmse": root_mean_squared_error(actual, predicted),  # USD
            "test_mae": mean_absolute_error(actual, predicted),  # USD
            "test_r2": r2_score(actual, predicted),
        }
        mlflow.log_metrics(scores, model_id=model_id, dataset=dataset)  # of this run, and of the model

        importance = permutation_importance(
            model, features, actual, scoring="neg_root_mean_squared_error", n_repeats=3, random_state=0
        ).importances_mean
        pictures = {
            "predicted_against_actual": figures.predicted_against_actual(actual, predicted),
            "residuals": figures.residuals(
                actual, predicted, test["living_area"], "Living area (square feet)"
            ),
            "importance": figures.feature_importance(features.columns, importance),
        }
        for name, picture in pictures.items():
            mlflow.log_figure(picture, f"{name}.png")
        return scores

    evaluate(train())


mlflow_task_dag()
