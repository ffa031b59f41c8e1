"""Names and assets that the DAGs of the pipeline share.

Define each asset once, here: if another DAG file defines the same asset without its watcher,
Airflow stops watching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow.sdk import Asset, AssetWatcher
from airflow.sdk.exceptions import AirflowFailException

from mlflow_provider.triggers.registry import MLflowRegistryEventTrigger

EXPERIMENT_NAME: Final = "Housing pipeline"
DATASET_NAME: Final = "Ames housing"
REGISTERED_MODEL_NAME: Final = "Housing pipeline"
CHAMPION: Final = "champion"  # the alias of the version that predicts
PREVIOUS: Final = "previous"  # the alias of the champion before it

# Their events contain the ID of an MLflow run and the URI of the model that it logged.
FEATURES = Asset("housing_features")
CANDIDATE = Asset("housing_candidate")

# No task updates this asset. The triggerer does, when anyone moves the alias in MLflow.
CHAMPION_CHANGED = Asset(
    "housing_champion",
    watchers=[
        AssetWatcher(
            name="mlflow",
            trigger=MLflowRegistryEventTrigger(REGISTERED_MODEL_NAME, alias=CHAMPION, poll_interval=5),
        )
    ],
)


def newest(
    asset: Asset, triggering_events: Mapping[Any, Sequence[Any]], all_events: Mapping[Any, Sequence[Any]]
) -> dict[str, str]:
    """Return the extra of the newest event that triggered this DAG run.

    In a DAG run triggered by hand, return the extra of the newest event of the asset.

    :param triggering_events: ``triggering_asset_events`` of the task's context.
    :param all_events: ``inlet_events`` of the task's context; the task needs ``inlets=[asset]``.
    :raises AirflowFailException: the asset has no events; a retry would not help.
    """
    events = list(triggering_events.get(asset) or all_events[asset])
    if not events:
        raise AirflowFailException(
            f"No task has updated the asset {asset.name} yet. Trigger pipeline_1_features; the others follow."
        )
    return max(events, key=lambda event: event.timestamp).extra
