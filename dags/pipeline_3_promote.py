"""
## Pipeline 3: evaluate and promote

**Try it:** in [MLflow](/mlflow/open), open *Model training > Model registry > Housing pipeline*, and
take the alias `champion` from the version that has it. Then trigger this DAG with *Wait for approval*:
the newest candidate is evaluated once more, and `promote` waits for you under *Required Actions*, with
what there is to decide by.

**Exercise:** let a candidate win only if it is better by 500 USD: give `promote` a
`min_absolute_change`.

Starts when `pipeline_2_train` has a new candidate:

1. `evaluate` scores it on the held-out sales, which no model was trained on. Its MLflow run
   `Evaluation` has the errors, and figures of predicted against actual prices, residuals and
   importance;
2. `register_candidate` makes it a version of the registered model `Housing pipeline`;
3. `promote` moves the alias `champion` to it if its `test_rmse` is lower than that of the version
   there, which becomes `previous`. Otherwise the champion stays, and the log says why.

That the champion changed starts `pipeline_4_predict`.
"""

from airflow.sdk import Param, dag, task
from pendulum import duration

from include.assets import (
    CANDIDATE,
    CHAMPION,
    DATASET_NAME,
    EXPERIMENT_NAME,
    PREVIOUS,
    REGISTERED_MODEL_NAME,
    newest,
)
from mlflow_provider.operators.promotion import PromoteModelVersionOperator
from mlflow_provider.operators.registry import RegisterModelOperator

MLFLOW_CONN_ID = "mlflow_default"


@dag(
    schedule=CANDIDATE,
    is_paused_upon_creation=False,  # or nothing would follow pipeline_2_train, until you un-pause this DAG
    default_args={
        "owner": "mlflow-tutorial",
        "retries": 2,
        "retry_delay": duration(seconds=10),
        "mlflow_conn_id": MLFLOW_CONN_ID,  # for every operator that takes one
    },
    params={
        "approval": Param(
            False,
            type="boolean",
            title="Wait for approval",
            description="A better candidate becomes the champion only when somebody says so in Airflow.",
        )
    },
    doc_md=__doc__,
    tags=["mlflow", "pipeline", "operator"],
)
def pipeline_3_promote():  # the DAG's ID: a copy of this file needs another
    @task.mlflow(experiment=EXPERIMENT_NAME, run_name="Evaluation", inlets=[CANDIDATE])
    def evaluate(triggering_asset_events, inlet_events) -> str:
        """Log errors and figures of the candidate on the held-out sales, and hand on its model's URI."""
        import mlflow

        from include.evaluation import compute_errors, draw_figures
        from include.features import clean
        from include.housing import TARGET, load_housing, split_housing

        candidate = newest(CANDIDATE, triggering_asset_events, inlet_events)
        model = mlflow.sklearn.load_model(candidate["model_uri"])
        # Every candidate is judged by the same sales, whatever it was trained on.
        _, held_out = split_housing(clean(load_housing()))
        mlflow.log_input(mlflow.data.from_pandas(held_out, targets=TARGET, name=DATASET_NAME), "test")
        features, actual = held_out.drop(columns=TARGET), held_out[TARGET]
        errors = compute_errors(actual, model.predict(features))
        # Of this run, and of the logged model, where `promote` and MLflow's pages look for them.
        mlflow.log_metrics(errors, model_id=candidate["model_uri"].removeprefix("models:/"))
        for name, figure in draw_figures(model, features, actual).items():
            mlflow.log_figure(figure, name)
        return candidate["model_uri"]

    register_candidate = RegisterModelOperator(
        task_id="register_candidate", model_uri=evaluate(), name=REGISTERED_MODEL_NAME
    )

    PromoteModelVersionOperator(
        task_id="promote",
        name=REGISTERED_MODEL_NAME,
        version=register_candidate.output["version"],
        metric="test_rmse",  # USD
        greater_is_better=False,
        alias=CHAMPION,
        previous_alias=PREVIOUS,
        wait_for_approval="{{ params.approval }}",
    )


pipeline_3_promote()
