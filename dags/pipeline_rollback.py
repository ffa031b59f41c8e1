"""
## Rollback

**Try it:**

1. The rollback needs a second champion: trigger `pipeline_2_train` with 300 **Trees**,
   and wait until `pipeline_3_promote` has promoted its candidate.
2. Trigger this DAG, and look at the aliases of
   [the registered model Housing pipeline](/mlflow/open/models/Housing%20pipeline).
3. Trigger it again to undo the rollback.

**Exercise:** add an `UpdateModelVersionOperator` that writes the reason for the rollback, from a param,
into the description of the old champion.
`docs/tutorial/solutions-pipeline.md` has a solution, and links all arguments.

The aliases `champion` and `previous` swap their versions.
Nothing is trained, and no version is deleted.
`pipeline_4_predict` starts automatically because the champion changed.
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
    schedule=None,  # runs only when you trigger it
    default_args={
        "owner": "mlflow-tutorial",
        "retries": 2,
        "retry_delay": duration(seconds=10),
        "mlflow_conn_id": MLFLOW_CONN_ID,  # for every task that takes one
    },
    max_active_runs=1,  # two at the same time would undo each other
    doc_md=__doc__,
    tags=["mlflow", "pipeline", "hook", "operator"],
)
def pipeline_rollback():  # the DAG ID: rename it in a copy of this file
    @task
    def find_versions() -> dict[str, str]:
        """Return the version behind each alias, so that a retried task does not swap them twice."""
        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        try:
            answer = hook.call("GET", "registered-models/get", {"name": REGISTERED_MODEL_NAME})
        except MLflowNotFoundError:
            answer = {"registered_model": {}}
        aliases = answer["registered_model"].get("aliases", [])
        versions = {alias["alias"]: alias["version"] for alias in aliases}
        if not {CHAMPION, PREVIOUS} <= versions.keys():
            raise AirflowFailException(
                f"Cannot roll back {REGISTERED_MODEL_NAME!r}: it needs the aliases {CHAMPION!r} and "
                f"{PREVIOUS!r}, but has {versions or 'neither'}. Promote a second version first: "
                "trigger pipeline_2_train with 300 trees."
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
