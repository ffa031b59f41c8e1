"""
## The operators: the model registry without code

From a trained model to a registered version behind an alias, one operator a step:

1. `register_model` makes the model a version of the registered model `Housing prices`;
2. `tag_version` says where it comes from, `describe_version` what it is;
3. `set_alias` points the alias `challenger` at it;
4. `get_challenger` asks the registry for the version behind the alias, as a consumer of the model would.

An operator that returns a model version also hands on its `name`, `version` and `model_uri`, so that
`register_model.output["version"]` is all the next one needs. Nothing here needs the `mlflow` package in
your own code but the training itself.

**Try it:** run the DAG, then open *Models > Housing prices* in [MLflow](/mlflow/open). Run it
again: a second version appears, and the alias moves to it. Clear `register_model` of an old DAG run: its
version is found again instead of registered twice.

**Exercise:** add a `CopyModelVersionOperator` that copies the challenger to `Housing prices, production`.
"""

from airflow.sdk import chain, dag, task
from pendulum import duration

from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.operators.registry import (
    GetModelVersionByAliasOperator,
    RegisterModelOperator,
    SetModelVersionTagOperator,
    SetRegisteredModelAliasOperator,
    UpdateModelVersionOperator,
)

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"
REGISTERED_MODEL_NAME = "Housing prices"
ALIAS = "challenger"


@dag(
    schedule=None,  # runs when you press play
    catchup=False,
    default_args={
        "owner": "mlflow-tutorial",
        "retries": 2,
        "retry_delay": duration(seconds=10),
        "mlflow_conn_id": MLFLOW_CONN_ID,  # for every operator that takes one
    },
    doc_md=__doc__,
    tags=["mlflow", "operator"],
)
def mlflow_operator_dag():
    @task(multiple_outputs=True)
    def train_model() -> dict[str, str]:
        """Fit a linear model of the sale price and log it to a run."""
        import mlflow
        from sklearn.linear_model import LinearRegression

        from include.housing import NUMERIC_FEATURES, TARGET, load_housing

        housing = load_housing()
        features = housing[NUMERIC_FEATURES]
        with MLflowBaseHook(MLFLOW_CONN_ID).tracking():
            mlflow.set_experiment(EXPERIMENT_NAME)
            with mlflow.start_run(run_name="Linear model") as run:
                model = mlflow.sklearn.log_model(
                    LinearRegression().fit(features, housing[TARGET]),
                    name="model",
                    input_example=features.head(),
                    pip_requirements=mlflow.sklearn.get_default_pip_requirements(include_skops=True),
                )
        return {"mlflow_run_id": run.info.run_id, "model_uri": model.model_uri}

    register_model = RegisterModelOperator(
        task_id="register_model",
        model_uri=train_model()["model_uri"],
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
        description="Linear model of the sale price, by `{{ dag.dag_id }}`.",
    )

    set_alias = SetRegisteredModelAliasOperator(
        task_id="set_alias",
        name=REGISTERED_MODEL_NAME,
        alias=ALIAS,
        version=register_model.output["version"],
    )

    get_challenger = GetModelVersionByAliasOperator(
        task_id="get_challenger",
        name=REGISTERED_MODEL_NAME,
        alias=ALIAS,
    )

    chain([tag_version, describe_version], set_alias, get_challenger)


mlflow_operator_dag()
