"""
## Pipeline 1: features

**Try it:**

1. Trigger this DAG. `pipeline_2_train`, `pipeline_3_promote` and `pipeline_4_predict` start automatically.
   **Assets > housing_features** shows how they are connected.
   Everything they log is in
   [the experiment Housing pipeline](/mlflow/open/experiments/Housing%20pipeline).
2. Trigger it again with a **Share of the training sales** of 0.1.
   The models get worse, so the champion stays and no predictions are made.
   Compare `test_rmse`, which is measured on the same sales for every model.
   `cv_rmse` is measured on the chosen share, and may even get better if that has fewer unusual houses.

**Exercise:** in `include/features.py`, replace `StandardScaler` with another scikit-learn scaler,
such as `QuantileTransformer`, and compare the `cv_rmse` of the `ridge` runs.
That of the boosted trees hardly changes, because trees ignore the scale of a feature.
`docs/tutorial/solutions-pipeline.md` has a solution.

`prepare_features` cleans the sales and fits the transformer that scales the numbers and encodes the
categories.
Its MLflow run `Features` has the data set, the cleaned sales as an artifact, and the transformer as a model.
The task then updates the asset `housing_features`, which starts the next DAG.
The event contains two short strings, the run ID and the model URI. All data stays in MLflow.
"""

from airflow.sdk import Param, dag, task
from pendulum import duration

from include.assets import DATASET_NAME, EXPERIMENT_NAME, FEATURES

MLFLOW_CONN_ID = "mlflow_default"


@dag(
    schedule=None,  # runs only when you trigger it
    default_args={"owner": "mlflow-tutorial", "retries": 2, "retry_delay": duration(seconds=10)},
    params={
        "share": Param(
            1.0,
            type="number",
            minimum=0.05,
            maximum=1,
            title="Share of the training sales",
            description="1 uses all of them. With fewer, the models get worse.",
        )
    },
    doc_md=__doc__,
    tags=["mlflow", "pipeline", "taskflow"],
)
def pipeline_1_features():  # the DAG ID: rename it in a copy of this file
    @task.mlflow(
        mlflow_conn_id=MLFLOW_CONN_ID, experiment=EXPERIMENT_NAME, run_name="Features", outlets=[FEATURES]
    )
    def prepare_features(params, outlet_events):
        """Clean the training sales, fit the transformer to them, and log both."""
        import mlflow

        from include.features import clean, make_transformer
        from include.housing import TARGET, load_housing, split_housing
        from include.models import log_model

        training, _ = split_housing(clean(load_housing()))
        training = training.sample(frac=params["share"], random_state=0)
        features = training.drop(columns=TARGET)
        transformer = make_transformer().fit(features)

        mlflow.log_input(mlflow.data.from_pandas(training, targets=TARGET, name=DATASET_NAME), "training")
        mlflow.log_param("share", params["share"])
        mlflow.log_metrics({"sales": len(training), "features": len(transformer.get_feature_names_out())})
        mlflow.log_text(training.to_csv(index=False), "training.csv")
        model = log_model(transformer, features, name="transformer")
        outlet_events[FEATURES].extra = {"run_id": model.run_id, "model_uri": model.model_uri}

    prepare_features()


pipeline_1_features()
