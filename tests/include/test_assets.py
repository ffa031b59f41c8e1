"""How a DAG of the pipeline learns what the one before left."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.assets import CANDIDATE, CHAMPION_CHANGED, FEATURES, newest


def events(*run_ids: str) -> list[SimpleNamespace]:
    """One event of each run, which has its ID for a timestamp."""
    return [SimpleNamespace(extra={"run_id": run_id}, timestamp=run_id) for run_id in run_ids]


def test_a_dag_run_gets_the_newest_of_the_events_that_started_it():
    """And no newer one, which another DAG run will get."""
    found = newest(FEATURES, {FEATURES: events("b", "a")}, {FEATURES: events("c", "b", "a")})
    assert found == {"run_id": "b"}


def test_a_dag_run_started_by_hand_gets_the_newest_there_is():
    assert newest(FEATURES, {}, {FEATURES: events("b", "a")}) == {"run_id": "b"}


def test_says_what_to_do_where_nothing_has_run_yet_and_does_not_try_again():
    with pytest.raises(AirflowFailException, match=r"housing_candidate yet\. Trigger pipeline_1_features"):
        newest(CANDIDATE, {}, {CANDIDATE: []})


def test_the_champion_is_watched_in_mlflow():
    [watcher] = CHAMPION_CHANGED.watchers
    _, arguments = watcher.trigger.serialize()
    assert (arguments["name"], arguments["alias"]) == ("Housing pipeline", "champion")
