"""
## Pipeline 2: train

**Try it:**

1. Trigger this DAG with 300 **Trees**. The best candidate is better than the champion of the default grid,
   so `pipeline_3_promote` makes it the champion, and the old one gets the alias `previous`.
2. Trigger it with `ridge`, `lasso` and ten values of **alpha**: `train` becomes twenty tasks,
   and four of them run at a time.
3. In [the experiment Housing pipeline](/mlflow/open/experiments/Housing%20pipeline), expand the parent run,
   select its children, and press **Compare**.

**Exercise:** add `ExtraTreesRegressor` to `include/regressors.py` and select it in the dialog.
`docs/tutorial/solutions-pipeline.md` has a solution.

Starts when `pipeline_1_features` updates its asset:

1. `choose_configurations` builds a grid from the choices in the dialog.
   When the asset starts the DAG, the grid has the four default configurations;
2. `train` runs once per configuration: it cross-validates, fits on all training sales,
   and logs parameters, error and model.
   With `nested=True`, all of these MLflow runs have the same parent;
3. `pick_best` picks the model with the smallest cross-validated error and updates the asset that starts
   `pipeline_3_promote`.
"""

from collections.abc import Sequence

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException
from pendulum import duration

from include.assets import CANDIDATE, EXPERIMENT_NAME, FEATURES, newest
from include.regressors import LINEAR, TREES

MLFLOW_CONN_ID = "mlflow_default"


@dag(
    schedule=FEATURES,
    is_paused_upon_creation=False,  # so that it starts without being unpaused first
    default_args={"owner": "mlflow-tutorial", "retries": 2, "retry_delay": duration(seconds=10)},
    params={
        "regressors": Param(
            ["ridge", "gradient_boosting"],
            type="array",
            items={"enum": [*LINEAR, *TREES]},
            examples=[*LINEAR, *TREES],  # makes the dialog show a list of choices
            title="Regressors",
            description=f"Linear: {', '.join(LINEAR)}. Ensembles of trees: {', '.join(TREES)}.",
        ),
        "alphas": Param(
            [1.0, 10.0],
            type="array",
            items={"type": "number", "exclusiveMinimum": 0},
            title="alpha",
            description="Regularization strength, above 0. Each linear regressor is trained with each value.",
        ),
        "depths": Param(
            [3, 5],
            type="array",
            items={"type": "integer", "minimum": 1, "maximum": 30},
            title="Depth of a tree",
            description="1 to 30. Each ensemble of trees is trained with each value.",
        ),
        "trees": Param(
            100,
            type="integer",
            minimum=1,
            maximum=1000,
            title="Trees",
            description="Number of trees in an ensemble: 1 to 1,000.",
        ),
        "folds": Param(
            3,
            type="integer",
            minimum=2,
            maximum=10,
            title="Folds",
            description="Number of folds for cross-validation: 2 to 10.",
        ),
    },
    doc_md=__doc__,
    tags=["mlflow", "pipeline", "taskflow"],
)
def pipeline_2_train():  # the DAG ID: rename it in a copy of this file
    @task(inlets=[FEATURES])
    def find_features(triggering_asset_events, inlet_events) -> dict:
        """Return run ID and transformer URI from the triggering asset event, or from the newest."""
        return newest(FEATURES, triggering_asset_events, inlet_events)

    @task
    def choose_configurations(params) -> list[dict]:
        """Return all combinations of the chosen parameters."""
        from include.regressors import make_grid

        grid = make_grid(params["regressors"], params["alphas"], params["depths"], params["trees"])
        if not grid:
            raise AirflowFailException(
                "The grid is empty. Choose a regressor, and an alpha for linear ones or a depth for trees."
            )
        return grid

    @task.mlflow(
        mlflow_conn_id=MLFLOW_CONN_ID,
        experiment=EXPERIMENT_NAME,
        nested=True,
        map_index_template="{{ configuration.values() | join(', ') }}",  # shown instead of a number
    )
    def train(configuration: dict, prepared: dict, params) -> dict:
        """Cross-validate a configuration, fit it to all training sales, and log the model."""
        import mlflow
        import pandas as pd
        from sklearn.model_selection import KFold, cross_val_score
        from sklearn.pipeline import make_pipeline

        from include.housing import TARGET
        from include.models import log_model
        from include.regressors import describe, make_regressor

        run_id = mlflow.active_run().info.run_id
        mlflow.MlflowClient().update_run(run_id, name=describe(**configuration))
        mlflow.set_tag("features_run_id", prepared["run_id"])
        mlflow.log_params(configuration)
        training = pd.read_csv(
            mlflow.artifacts.download_artifacts(f"runs:/{prepared['run_id']}/training.csv")
        )
        features, prices = training.drop(columns=TARGET), training[TARGET]
        transformer = mlflow.sklearn.load_model(prepared["model_uri"])
        model = make_pipeline(transformer, make_regressor(**configuration))
        # Each fold refits the transformer, which must not learn from the sales it is validated on.
        folds = KFold(params["folds"], shuffle=True, random_state=0)
        errors = -cross_val_score(
            model, features, prices, cv=folds, scoring="neg_root_mean_squared_error", error_score="raise"
        )

        logged = log_model(model.fit(features, prices), features)
        scores = {"cv_rmse": float(errors.mean()), "cv_rmse_std": float(errors.std())}  # USD
        mlflow.log_metrics(scores, model_id=logged.model_id)
        return {"run_id": logged.run_id, "model_uri": logged.model_uri, "cv_rmse": scores["cv_rmse"]}

    @task(outlets=[CANDIDATE])
    def pick_best(trained: Sequence[dict], outlet_events):
        """Pass the model with the smallest cross-validated error to the next DAG."""
        results = list(trained)
        best = min(results, key=lambda result: result["cv_rmse"])
        print(f"Best of {len(results)}: run {best['run_id']} with cv_rmse {best['cv_rmse']:,.0f} USD")
        outlet_events[CANDIDATE].extra = {"run_id": best["run_id"], "model_uri": best["model_uri"]}

    trained = train.partial(prepared=find_features()).expand(configuration=choose_configurations())
    pick_best(trained)


pipeline_2_train()
