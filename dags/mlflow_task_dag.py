"""
## @task.mlflow: a task with its own MLflow run

**Try it:**

1. Run this DAG. The tab **MLflow** of the DAG run lists the runs of both tasks.
2. On the task instance `evaluate`, **Details > Extra Links > MLflow run** opens its run.
   It has the errors on sales that the model has never seen, three figures as artifacts,
   and a description that links back here.
3. Run it again and switch on **Let the first try fail**.
   The run of the first try is `FAILED`, and its tag `airflow.reason` says why.
   The run of the second try has the ID of the first in the tag `airflow.retry_of`.

**Exercise:** replace `Ridge` with another scikit-learn regressor, such as `RandomForestRegressor`,
and run the DAG again.
In [the experiment Housing](/mlflow/open/experiments/Housing), select both runs `Evaluate` and press
**Compare**: which one has the smaller `test_rmse`?
`docs/tutorial/solutions.md` has a solution.

The tasks may run on different machines.
`train` returns one short string, the ID of its logged model,
and `evaluate` loads the model **through the tracking server**.
The tasks exchange no files and share no folder, and no worker needs a key to the artifact store.
"""

from airflow.sdk import Param, dag, task
from pendulum import duration

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"
DATASET_NAME = "Ames housing"


@dag(
    schedule=None,  # runs only when you trigger it
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
            description="Airflow retries the task train ten seconds later.",
        )
    },
    doc_md=__doc__,
    tags=["mlflow", "taskflow"],
)
def mlflow_task_dag():  # the DAG ID: rename it in a copy of this file
    @task.mlflow(experiment=EXPERIMENT_NAME, run_name="Train")
    def train(params, ti) -> str:
        """Fit a model of the sale price on the training sales, log it, and return its ID."""
        # Imported here because Airflow parses this file often, and these imports take seconds.
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
        mlflow.log_params({"regressor": type(regressor).__name__, **regressor.get_params()})
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
        """Log the errors of the model on the test sales, with figures."""
        import mlflow

        from include.evaluation import compute_errors, draw_figures
        from include.housing import TARGET, load_housing, split_housing

        _, test = split_housing(load_housing())
        features, actual = test.drop(columns=TARGET), test[TARGET]
        dataset = mlflow.data.from_pandas(test, targets=TARGET, name=DATASET_NAME)
        mlflow.log_input(dataset, "test")

        model = mlflow.sklearn.load_model(f"models:/{model_id}")
        errors = compute_errors(actual, model.predict(features))  # test_rmse and test_mae in USD, test_r2
        mlflow.log_metrics(errors, model_id=model_id, dataset=dataset)  # on the run and on the model
        for file_name, figure in draw_figures(model, features, actual).items():
            mlflow.log_figure(figure, file_name)
        return errors

    evaluate(train())


mlflow_task_dag()
