"""
## Rollback

**Try it:** press the play button when the champion has changed at least once, and look at the aliases
in [MLflow](/mlflow/open), under *Model training > Model registry > Housing pipeline*. Press it again,
and everything is as it was.

**Exercise:** add an `UpdateModelVersionOperator` that notes in the version's description why it was
taken back, with the reason from a param.

The versions behind `champion` and `previous` change places. Nothing is trained, and no version is
deleted. `pipeline_4_predict` starts by itself, because the champion changed.
"""

from airflow.sdk import chain, dag, task
from airflow.sdk.exceptions import AirflowFailException
from pendulum import duration

from include.assets import CHAMPION, PREVIOUS, REGISTERED_MODEL_NAME
from mlflow_provider.exceptions import MLflowNotFoundError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators.registry import SetRegisteredModelAliasOperator

MLFLOW_CONN_ID = "mlflow_default"


@dag(
    schedule=None,  # runs when you press play
    default_args={
        "owner": "mlflow-tutorial",
        "retries": 2,
        "retry_delay": duration(seconds=10),
        "mlflow_conn_id": MLFLOW_CONN_ID,  # for every operator that takes one
    },
    max_active_runs=1,  # two at once would undo each other
    doc_md=__doc__,
    tags=["mlflow", "pipeline", "hook", "operator"],
)
def pipeline_rollback():  # the DAG's ID: a copy of this file needs another
    @task
    def find_versions() -> dict[str, str]:
        """Return the versions behind the two aliases, before either moves: each task can be tried again."""
        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        try:
            found = hook.call("GET", "registered-models/get", {"name": REGISTERED_MODEL_NAME})
        except MLflowNotFoundError:
            found = {"registered_model": {}}
        versions = {each["alias"]: each["version"] for each in found["registered_model"].get("aliases", [])}
        if not {CHAMPION, PREVIOUS} <= versions.keys():
            raise AirflowFailException(
                f"There is no version to go back to: {REGISTERED_MODEL_NAME!r} needs a {CHAMPION!r} "
                f"and a {PREVIOUS!r} version, and has {versions or 'neither'}."
            )
        return versions

    versions = find_versions()
    chain(
        SetRegisteredModelAliasOperator(
            task_id="restore_champion",
            name=REGISTERED_MODEL_NAME,
            alias=CHAMPION,
            version=versions[PREVIOUS],
        ),
        SetRegisteredModelAliasOperator(
            task_id="keep_previous", name=REGISTERED_MODEL_NAME, alias=PREVIOUS, version=versions[CHAMPION]
        ),
    )


pipeline_rollback()
