"""Run a DAG when the champion of a registered model changes."""

from airflow.sdk import Asset, AssetWatcher, dag, task

from mlflow_provider.triggers.registry import MLflowRegistryEventTrigger

champion = Asset(
    "example_mlflow_champion",
    watchers=[
        AssetWatcher(
            name="mlflow", trigger=MLflowRegistryEventTrigger("Example of a promotion", alias="champion")
        )
    ],
)


@dag(schedule=champion, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_registry_event_trigger():
    @task
    def show_champion(triggering_asset_events=None):
        for event in triggering_asset_events[champion]:
            print(event.extra["payload"]["model_uri"])

    show_champion()


example_mlflow_registry_event_trigger()
