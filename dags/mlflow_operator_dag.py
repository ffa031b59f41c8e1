"""
## The operators: the model registry without code

**Try it:**

1. Run this DAG, then open [the registered model Housing prices](/mlflow/open/models/Housing%20prices).
   Version 1 has a description with its error, a tag with its DAG run, and the alias `challenger`.
2. Run it again: the alias moves to version 2.
3. Clear `register_model` of the first DAG run: version 1 is reused, not registered twice.
   The alias stays, because `set_alias` uses the newest version of any DAG run.

**Exercise:** copy the challenger to `Housing prices, production` with a `CopyModelVersionOperator`.
`docs/tutorial/solutions.md` has a solution, and links all arguments.

One operator per step, from a trained model to a version behind an alias:

1. `register_model` registers the model as a version of `Housing prices`;
2. `tag_version` records the DAG run, and `describe_version` describes the model and its error;
3. `find_newest` finds the newest version, and `set_alias` points the alias `challenger` at it;
4. `get_challenger` looks up the version behind the alias, as a consumer of the model would,
   and `predict` loads it and predicts the price of a house: the task's tab **XCom** shows it.

An operator that returns a model version also pushes its `name`, `version` and `model_uri`,
so the next operator only needs `register_model.output["version"]`.
"""

from airflow.sdk import chain, dag, task
from pendulum import duration

from mlflow_provider.operators.pyfunc import ModelLoadAndPredictOperator
from mlflow_provider.operators.registry import (
    GetModelVersionByAliasOperator,
    RegisterModelOperator,
    SearchModelVersionsOperator,
    SetModelVersionTagOperator,
    SetRegisteredModelAliasOperator,
    UpdateModelVersionOperator,
)

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"
REGISTERED_MODEL_NAME = "Housing prices"
ALIAS = "challenger"
HOUSE = {
    "lot_area": 9_600,  # square feet, as all areas
    "living_area": 1_500,
    "basement_area": 1_000,
    "garage_area": 480,
    "full_baths": 2,
    "bedrooms": 3,
    "fireplaces": 1,
    "year_built": 1976,
    "year_remodeled": 1994,
    "year_sold": 2010,
}


@dag(
    schedule=None,  # runs only when you trigger it
    max_active_runs=1,  # so that the alias never moves back to an older version
    default_args={
        "owner": "mlflow-tutorial",
        "retries": 2,
        "retry_delay": duration(seconds=10),
        "mlflow_conn_id": MLFLOW_CONN_ID,  # for every task that takes one
    },
    doc_md=__doc__,
    tags=["mlflow", "operator"],
)
def mlflow_operator_dag():  # the DAG ID: rename it in a copy of this file
    @task.mlflow(experiment=EXPERIMENT_NAME, run_name="Linear model")
    def train_model() -> dict[str, str]:
        """Fit a linear model of the sale price and log it with its error on the test sales."""
        # Imported here because Airflow parses this file often, and these imports take seconds.
        import mlflow
        from sklearn.linear_model import LinearRegression
        from sklearn.metrics import root_mean_squared_error

        from include.housing import NUMERIC_FEATURES, TARGET, load_housing, split_housing
        from include.models import log_model

        training, test = split_housing(load_housing())
        model = LinearRegression().fit(training[NUMERIC_FEATURES], training[TARGET])
        logged = log_model(model, training[NUMERIC_FEATURES])
        test_rmse = root_mean_squared_error(test[TARGET], model.predict(test[NUMERIC_FEATURES]))  # USD
        mlflow.log_metric("test_rmse", test_rmse, model_id=logged.model_id)
        return {"model_uri": logged.model_uri, "test_rmse": f"{test_rmse:,.0f} USD"}

    trained = train_model()

    register_model = RegisterModelOperator(
        task_id="register_model",
        model_uri=trained["model_uri"],
        name=REGISTERED_MODEL_NAME,
    )

    tag_version = SetModelVersionTagOperator(
        task_id="tag_version",
        name=REGISTERED_MODEL_NAME,
        version=register_model.output["version"],
        key="dag_run",
        value="{{ run_id }}",
    )

    describe_version = UpdateModelVersionOperator(
        task_id="describe_version",
        name=REGISTERED_MODEL_NAME,
        version=register_model.output["version"],
        description="Linear model of the sale price. Error on held-out sales: "
        "{{ ti.xcom_pull('train_model', key='test_rmse') }} (RMSE).",
    )

    find_newest = SearchModelVersionsOperator(
        task_id="find_newest",
        filter_string=f"name = '{REGISTERED_MODEL_NAME}'",
        order_by=["version_number DESC"],
        max_results=1,
    )

    # Not this DAG run's own version: clearing an older DAG run would move the alias back.
    set_alias = SetRegisteredModelAliasOperator(
        task_id="set_alias",
        name=REGISTERED_MODEL_NAME,
        alias=ALIAS,
        version="{{ ti.xcom_pull('find_newest')['model_versions'][0]['version'] }}",
    )

    get_challenger = GetModelVersionByAliasOperator(
        task_id="get_challenger",
        name=REGISTERED_MODEL_NAME,
        alias=ALIAS,
    )

    predict = ModelLoadAndPredictOperator(
        task_id="predict",
        model_uri=get_challenger.output["model_uri"],
        data=[HOUSE],  # a list of rows, or the output of a task that returns one
    )

    chain([tag_version, describe_version], find_newest, set_alias, get_challenger, predict)


mlflow_operator_dag()
