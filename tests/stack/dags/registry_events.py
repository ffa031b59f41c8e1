"""DAGs that start, or go on, when something happens in the model registry."""

from airflow.sdk import DAG, Asset, AssetWatcher, task

from mlflow_provider.sensors.registry import MLflowModelVersionSensor
from mlflow_provider.triggers.registry import MLflowRegistryEventTrigger


def watched(name: str, alias: str | None = None) -> Asset:
    trigger = MLflowRegistryEventTrigger("Housing", alias, poll_interval=2)
    return Asset(name, watchers=[AssetWatcher(name="mlflow", trigger=trigger)])


@task
def payloads(asset_name: str, triggering_asset_events=None) -> list[dict]:
    return [event.extra["payload"] for event in triggering_asset_events[Asset(asset_name)]]


for name, alias in {"versions": None, "champions": "champion", "challengers": "challenger"}.items():
    with DAG(name, schedule=watched(name, alias)):
        payloads(name)

with DAG("waits", schedule=None, params={"known": "1"}):
    MLflowModelVersionSensor(
        task_id="wait",
        name="Housing",
        alias="champion",
        after_version="{{ params.known }}",
        deferrable=True,
        poke_interval=2,
        timeout=600,
    )
