"""DAGs that react to events of a registered model with the name of this file."""

from pathlib import Path

from airflow.sdk import DAG, Asset, AssetWatcher, task

from mlflow_provider.sensors.registry import MLflowModelVersionSensor
from mlflow_provider.triggers.registry import MLflowRegistryEventTrigger

MODEL = Path(__file__).stem


def watched(name: str, alias: str | None = None) -> Asset:
    trigger = MLflowRegistryEventTrigger(MODEL, alias, poll_interval=1)
    return Asset(name, watchers=[AssetWatcher(name="mlflow", trigger=trigger)])


@task
def payloads(asset_name: str, triggering_asset_events=None) -> list[dict]:
    return [event.extra["payload"] for event in triggering_asset_events[Asset(asset_name)]]


for watch, alias in {"versions": None, "champions": "champion", "challengers": "challenger"}.items():
    name = f"{MODEL}_{watch}"
    with DAG(name, schedule=watched(name, alias)):
        payloads(name)

with DAG(f"{MODEL}_waits", schedule=None, params={"known": "2"}):
    MLflowModelVersionSensor(
        task_id="wait",
        name=MODEL,
        alias="champion",
        after_version="{{ params.known }}",
        deferrable=True,
        poke_interval=1,
        timeout=600,
    )
