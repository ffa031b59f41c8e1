"""How a DAG of the pipeline gets the result of the previous one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.assets import CANDIDATE, CHAMPION_CHANGED, FEATURES, newest


def events(*run_ids: str) -> list[SimpleNamespace]:
    """An event per run, with the run's ID as its timestamp."""
    return [SimpleNamespace(extra={"run_id": run_id}, timestamp=run_id) for run_id in run_ids]


def test_a_dag_run_gets_the_newest_of_the_events_that_started_it():
    """Not a newer one, which starts another DAG run."""
    event = newest(FEATURES, {FEATURES: events("b", "a")}, {FEATURES: events("c", "b", "a")})
    assert event == {"run_id": "b"}


def test_a_dag_run_started_by_hand_gets_the_newest_event():
    assert newest(FEATURES, {}, {FEATURES: events("b", "a")}) == {"run_id": "b"}


def test_without_events_the_task_says_what_to_do_and_is_not_retried():
    with pytest.raises(AirflowFailException, match=r"housing_candidate yet\. Trigger pipeline_1_features"):
        newest(CANDIDATE, {}, {CANDIDATE: []})


def test_the_champion_is_watched_in_mlflow():
    [watcher] = CHAMPION_CHANGED.watchers
    _, arguments = watcher.trigger.serialize()
    assert (arguments["name"], arguments["alias"]) == ("Housing pipeline", "champion")
