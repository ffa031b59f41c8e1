"""
## Pipeline 3: evaluate and promote

**Try it:**

1. In [the registered model Housing pipeline](/mlflow/open/models/Housing%20pipeline),
   remove the alias `champion` from its version.
2. Trigger this DAG with **Wait for approval**. It evaluates the newest candidate again.
3. `promote` waits for your decision under **Required Actions**, which shows the candidate's error
   and links to the figures of the run `Evaluation`.

**Exercise:** promote a candidate only if it is better by 500 USD: give `promote` a `min_absolute_change`.
`docs/tutorial/solutions-pipeline.md` has a solution, and links all arguments.

Starts when `pipeline_2_train` has a new candidate:

1. `evaluate` scores the candidate on the held-out sales, which no model was trained on.
   Its MLflow run `Evaluation` has the errors and three figures:
   predicted against actual prices, residuals and feature importance;
2. `register_candidate` registers it as a version of the registered model `Housing pipeline`;
3. `promote` moves the alias `champion` to it if its `test_rmse` is lower than the champion's,
   and the alias `previous` to the old champion.
   Otherwise the champion stays, and the log says why.

A new champion starts `pipeline_4_predict`.
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
    is_paused_upon_creation=False,  # so that it starts without being unpaused first
    default_args={
        "owner": "mlflow-tutorial",
        "retries": 2,
        "retry_delay": duration(seconds=10),
        "mlflow_conn_id": MLFLOW_CONN_ID,  # for every task that takes one
    },
    params={
        "approval": Param(
            False,
            type="boolean",
            title="Wait for approval",
            description="A better candidate becomes the champion only after someone approves it in Airflow.",
        )
    },
    doc_md=__doc__,
    tags=["mlflow", "pipeline", "operator"],
)
def pipeline_3_promote():  # the DAG ID: rename it in a copy of this file
    @task.mlflow(experiment=EXPERIMENT_NAME, run_name="Evaluation", inlets=[CANDIDATE])
    def evaluate(triggering_asset_events, inlet_events) -> str:
        """Log errors and figures of the candidate on the held-out sales, and return its model URI."""
        import mlflow

        from include.evaluation import compute_errors, draw_figures
        from include.features import clean
        from include.housing import TARGET, load_housing, split_housing

        candidate = newest(CANDIDATE, triggering_asset_events, inlet_events)
        model = mlflow.sklearn.load_model(candidate["model_uri"])
        # Every candidate is evaluated on the same sales, no matter what it was trained on.
        _, held_out = split_housing(clean(load_housing()))
        mlflow.log_input(mlflow.data.from_pandas(held_out, targets=TARGET, name=DATASET_NAME), "test")
        features, actual = held_out.drop(columns=TARGET), held_out[TARGET]
        errors = compute_errors(actual, model.predict(features))
        # Log to the run and to the logged model, where `promote` and MLflow's pages look for them.
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
