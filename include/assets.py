"""What the DAGs of the pipeline share: its names in MLflow, and the assets that start one after the other.

Each asset is defined once, here, and imported: Airflow drops the watch of one that a file names without it.
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
PREVIOUS: Final = "previous"  # the alias of the one that did before it

# Their events carry two short strings: an MLflow run, and the URI of the model that it logged.
FEATURES = Asset("housing_features")
CANDIDATE = Asset("housing_candidate")

# Nothing in Airflow updates this one. Its events say that the alias moved in MLflow, whoever moved it.
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
    asset: Asset, triggering: Mapping[Any, Sequence[Any]], all_events: Mapping[Any, Sequence[Any]]
) -> dict[str, str]:
    """Return what an event of the asset carries: of those that started the DAG run, the newest.

    A DAG run that somebody started by hand gets the newest there is.

    :param triggering: ``triggering_asset_events`` of the task's context.
    :param all_events: ``inlet_events`` of the task's context; the task needs ``inlets=[asset]``.
    :raises AirflowFailException: there is none, which another try would not change.
    """
    events = list(triggering.get(asset) or all_events[asset])
    if not events:
        raise AirflowFailException(
            f"Nothing has updated the asset {asset.name} yet. Trigger pipeline_1_features: the others follow."
        )
    return max(events, key=lambda event: event.timestamp).extra
