"""
## Pipeline 2: train

**Try it:** trigger this DAG, and change the grid in the dialog: with `ridge`, `lasso` and ten values of
*alpha*, `train` becomes twenty tasks, of which four run at a time. In [MLflow](/mlflow/open), unfold
the parent run under *Model training > Experiments > Housing pipeline*, select its children, and press
*Compare*.

**Exercise:** add `ExtraTreesRegressor` to `include/regressors.py`, and choose it in the dialog.

Starts when `pipeline_1_features` has updated its asset:

1. `choose_configurations` makes a grid of what was chosen in the dialog, or of its four defaults when
   the asset started the DAG;
2. `train`, a task for each configuration, cross-validates it, fits it on all training sales, and logs
   parameters, error and model. By `nested=True`, all of their MLflow runs have one parent;
3. `pick_best` hands on the one with the smallest cross-validated error, and updates the asset that
   starts `pipeline_3_promote`.
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
    is_paused_upon_creation=False,  # or nothing would follow pipeline_1_features, until you un-pause this DAG
    default_args={"owner": "mlflow-tutorial", "retries": 2, "retry_delay": duration(seconds=10)},
    params={
        "regressors": Param(
            ["ridge", "gradient_boosting"],
            type="array",
            items={"enum": [*LINEAR, *TREES]},
            examples=[*LINEAR, *TREES],  # with these, the dialog offers a list to choose from
            title="Regressors",
            description=f"Linear: {', '.join(LINEAR)}. Ensembles of trees: {', '.join(TREES)}.",
        ),
        "alphas": Param(
            [1.0, 10.0],
            type="array",
            items={"type": "number", "exclusiveMinimum": 0},
            title="alpha",
            description="How strongly to regularize: above 0, each tried with each linear regressor.",
        ),
        "depths": Param(
            [3, 5],
            type="array",
            items={"type": "integer", "minimum": 1, "maximum": 30},
            title="Depth of a tree",
            description="1 to 30, each tried with each ensemble of trees.",
        ),
        "trees": Param(
            100,
            type="integer",
            minimum=1,
            maximum=1000,
            title="Trees",
            description="How many an ensemble has: 1 to 1,000.",
        ),
        "folds": Param(
            3,
            type="integer",
            minimum=2,
            maximum=10,
            title="Folds",
            description="How often a configuration is cross-validated: 2 to 10 times.",
        ),
    },
    doc_md=__doc__,
    tags=["mlflow", "pipeline", "taskflow"],
)
def pipeline_2_train():  # the DAG's ID: a copy of this file needs another
    @task(inlets=[FEATURES])
    def find_features(triggering_asset_events, inlet_events) -> dict:
        """Return the run and the transformer that the asset event, or the newest there is, leads to."""
        return newest(FEATURES, triggering_asset_events, inlet_events)

    @task
    def choose_configurations(params) -> list[dict]:
        """Return the grid: all combinations of what was chosen."""
        from include.regressors import make_grid

        grid = make_grid(params["regressors"], params["alphas"], params["depths"], params["trees"])
        if not grid:
            raise AirflowFailException(
                "The grid is empty: choose a regressor, and an alpha if it is linear, otherwise a depth."
            )
        return grid

    @task.mlflow(
        mlflow_conn_id=MLFLOW_CONN_ID,
        experiment=EXPERIMENT_NAME,
        nested=True,
        map_index_template="{{ configuration.values() | join(', ') }}",  # instead of a number, in Airflow
    )
    def train(configuration: dict, prepared: dict, params) -> dict:
        """Cross-validate a configuration, fit it on all training sales, and log the model."""
        import mlflow
        import pandas as pd
        from sklearn.model_selection import KFold, cross_val_score
        from sklearn.pipeline import make_pipeline

        from include.housing import TARGET
        from include.models import log_model
        from include.regressors import describe, make_regressor

        mlflow.set_tags({"mlflow.runName": describe(**configuration), "features_run_id": prepared["run_id"]})
        mlflow.log_params(configuration)
        training = pd.read_csv(
            mlflow.artifacts.download_artifacts(f"runs:/{prepared['run_id']}/training.csv")
        )
        features, prices = training.drop(columns=TARGET), training[TARGET]
        transformer = mlflow.sklearn.load_model(prepared["model_uri"])
        model = make_pipeline(transformer, make_regressor(**configuration))
        # Each fold fits the transformer anew, so that it knows nothing of the sales it is judged by.
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
        """Hand on the run with the smallest cross-validated error."""
        results = trained[:]  # all of them by one request; a loop sends one for each
        best = min(results, key=lambda result: result["cv_rmse"])
        print(f"Best of {len(results)}: run {best['run_id']}, with a cv_rmse of {best['cv_rmse']:,.0f} USD.")
        outlet_events[CANDIDATE].extra = {"run_id": best["run_id"], "model_uri": best["model_uri"]}

    trained = train.partial(prepared=find_features()).expand(configuration=choose_configurations())
    pick_best(trained)


pipeline_2_train()
