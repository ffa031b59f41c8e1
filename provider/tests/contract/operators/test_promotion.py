"""The gate at a real registry: the alias moves to what is better, and to nothing else."""

from __future__ import annotations

import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, task, teardown

from mlflow_provider.exceptions import MLflowNotFoundError, MLflowProviderError
from mlflow_provider.operators import promotion
from mlflow_provider.operators.promotion import PromoteModelVersionOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow_provider.hooks.client import MLflowClientHook

RULE = {"metric": "rmse", "greater_is_better": False}
timestamps = itertools.count(1)


@dataclass(frozen=True)
class Model:
    """A registered model whose versions have metrics."""

    name: str
    hook: MLflowClientHook

    def add(self, **metrics: Any) -> str:
        """Create a version from a run with these metrics."""
        return self._add("s3://bucket/housing", self._run(**metrics))

    def add_from_logged_model(
        self, *model_metrics: dict[str, Any], run_metrics: dict[str, Any] | None = None
    ) -> str:
        """Create a version from a logged model that got these metrics one after another."""
        run_id = self._run(**(run_metrics or {}))
        params = {"experiment_id": self._experiment_id, "name": "model", "source_run_id": run_id}
        model_id = self.hook.call("POST", "logged-models", params)["model"]["info"]["model_id"]
        for metrics in model_metrics:
            self._log(run_id, metrics, model_id)
        return self._add(f"models:/{model_id}", run_id, model_id)

    @property
    def _experiment_id(self) -> str:
        return self.hook.get_or_create_experiment("Gate")

    def _run(self, **metrics: Any) -> str:
        run = self.hook.call("POST", "runs/create", {"experiment_id": self._experiment_id})["run"]
        self._log(run["info"]["run_id"], metrics)
        return run["info"]["run_id"]

    def _log(self, run_id: str, metrics: dict[str, Any], model_id: str | None = None) -> None:
        for key, value in metrics.items():
            params = {"run_id": run_id, "key": key, "value": value, "model_id": model_id}
            self.hook.call("POST", "runs/log-metric", {**params, "timestamp": next(timestamps)})

    def _add(self, source: str, run_id: str, model_id: str | None = None) -> str:
        params = {"name": self.name, "source": source, "run_id": run_id, "model_id": model_id}
        return self.hook.call("POST", "model-versions/create", params)["model_version"]["version"]

    def version(self, version: str) -> dict[str, Any]:
        return self.hook.get_model_version(self.name, version)["model_version"]

    def delete(self, version: str) -> None:
        self.hook.call("DELETE", "model-versions/delete", {"name": self.name, "version": version})

    def set_alias(self, alias: str, version: str) -> None:
        params = {"name": self.name, "alias": alias, "version": version}
        self.hook.call("POST", "registered-models/alias", params)

    @property
    def aliases(self) -> dict[str, str]:
        """The version behind each alias."""
        model = self.hook.call("GET", "registered-models/get", {"name": self.name})["registered_model"]
        return {alias["alias"]: alias["version"] for alias in model.get("aliases", [])}


@pytest.fixture
def model(hook: MLflowClientHook, name: str) -> Model:
    """A registered model without versions."""
    hook.create_registered_model(name)
    return Model(name, hook)


@pytest.fixture
def champion(model: Model) -> str:
    """Version 1, the champion: its rmse is 25,000."""
    version = model.add(rmse=25_000.0)
    model.set_alias("champion", version)
    return version


@pytest.fixture
def promote(execute: Callable[..., Any], model: Model) -> Callable[..., dict[str, Any]]:
    """A function that runs the gate for a version and returns what it decided."""
    return lambda version, operator_class=PromoteModelVersionOperator, **arguments: execute(
        operator_class, **{"name": model.name, "version": version, **RULE, **arguments}
    )


def test_the_first_version_becomes_champion(promote, model):
    decision = promote(model.add(rmse=25_000.0))

    assert decision == {
        "promoted": True,
        "name": model.name,
        "version": "1",
        "metric": "rmse",
        "value": 25_000.0,
        "champion_version": None,
        "champion_value": None,
        "reason": "rmse 25000 of version 1, and there is no champion yet.",
    }
    assert model.aliases == {"champion": "1"}


def test_a_better_version_becomes_champion_and_the_old_one_previous(promote, model, champion):
    decision = promote(model.add(rmse=24_000.5))

    assert decision == {
        "promoted": True,
        "name": model.name,
        "version": "2",
        "metric": "rmse",
        "value": 24_000.5,
        "champion_version": "1",
        "champion_value": 25_000.0,
        "reason": "rmse 24000.5 of version 2 is better than 25000 of version 1.",
    }
    assert model.aliases == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize("value", [25_000.0, 26_000.0], ids=["equal", "worse"])
def test_what_is_not_better_is_rejected(promote, model, champion, value):
    decision = promote(model.add(rmse=value))

    assert not decision["promoted"]
    assert decision["reason"] == f"rmse {value:g} of version 2 is not better than 25000 of version 1."
    assert model.aliases == {"champion": "1"}


@pytest.mark.parametrize("has_champion", [False, True])
def test_the_threshold_must_hold_with_and_without_a_champion(promote, model, has_champion):
    if has_champion:
        model.set_alias("champion", model.add(rmse=25_000.0))

    decision = promote(version := model.add(rmse=24_000.0), threshold=20_000.0)

    assert not decision["promoted"]
    assert decision["reason"] == f"rmse 24000 of version {version} is above the threshold 20000."
    assert model.aliases == ({"champion": "1"} if has_champion else {})


def test_arguments_may_be_strings_as_templates_render_them(promote, model, champion):
    decision = promote(
        model.add(rmse=26_000.0),
        greater_is_better="True",
        threshold="27e3",
        min_absolute_change="None",
        wait_for_approval="False",
    )

    assert decision["reason"] == "rmse 26000 of version 2 is below the threshold 27000."


@pytest.mark.parametrize("previous_alias", [None, "None", ""])
def test_without_a_previous_alias_the_old_version_keeps_none(promote, model, champion, previous_alias):
    promote(model.add(rmse=24_000.0), previous_alias=previous_alias)

    assert model.aliases == {"champion": "2"}


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ({"threshold": "low"}, "threshold is 'low'; enter a number."),
        ({"threshold": float("nan")}, "threshold is nan; enter a number."),
        ({"min_absolute_change": "inf"}, "min_absolute_change is 'inf'; enter a number."),
        ({"min_absolute_change": "-5"}, "min_absolute_change is -5; enter 0 or more."),
        ({"greater_is_better": "lower"}, "greater_is_better is 'lower'; enter True or False."),
        ({"wait_for_approval": "maybe"}, "wait_for_approval is 'maybe'; enter True or False."),
    ],
)
def test_an_argument_that_makes_no_sense_is_an_error(promote, model, champion, argument, problem):
    version = model.add(rmse=24_000.0)

    with pytest.raises(ValueError, match=f"^{problem}$"):
        promote(version, **argument)

    assert model.aliases == {"champion": "1"}


# Retries


def test_a_retry_after_the_alias_moved_keeps_the_previous_version(promote, model, champion):
    version = model.add(rmse=24_000.0)
    promote(version)

    decision = promote(version)

    assert decision["promoted"]
    assert (decision["champion_version"], decision["champion_value"]) == ("2", 24_000.0)
    assert decision["reason"] == "Version 2 has alias 'champion' already."
    assert model.aliases == {"champion": "2", "previous": "1"}


def test_a_retry_after_only_the_previous_alias_was_set_promotes(promote, model, champion):
    model.set_alias("previous", champion)

    assert promote(model.add(rmse=24_000.0))["promoted"]

    assert model.aliases == {"champion": "2", "previous": "1"}


# Where the value comes from


def test_the_value_is_the_logged_models_not_the_runs(promote, model, champion):
    version = model.add_from_logged_model({"rmse": 24_000.0}, run_metrics={"rmse": 1.0})

    assert promote(version)["value"] == 24_000.0


def test_of_several_values_of_a_logged_model_the_newest_counts(promote, model, champion):
    version = model.add_from_logged_model({"rmse": 30_000.0}, {"rmse": 20_000.0}, {"rmse": 24_000.0})

    assert promote(version)["value"] == 24_000.0


def test_what_the_logged_model_has_not_the_run_has(promote, model, champion):
    version = model.add_from_logged_model({"mae": 1.0}, run_metrics={"rmse": 24_000.0})

    assert promote(version)["value"] == 24_000.0


def test_the_run_counts_if_the_logged_model_is_deleted(promote, model, champion):
    version = model.add_from_logged_model({"mae": 1.0}, run_metrics={"rmse": 24_000.0})
    model.hook.call("DELETE", f"logged-models/{model.version(version)['source'].removeprefix('models:/')}")

    assert promote(version)["value"] == 24_000.0


def test_a_metric_that_the_candidate_lacks_is_an_error_that_names_those_it_has(promote, model, champion):
    version = model.add_from_logged_model({"mae": 1.0}, run_metrics={"r2": 0.9})

    with pytest.raises(MLflowProviderError) as raised:
        promote(version)

    assert str(raised.value) == f"Version 2 of {model.name!r} has no metric 'rmse'; it has mae, r2."
    assert model.aliases == {"champion": "1"}


def test_a_metric_that_the_champion_lacks_is_an_error_that_says_what_to_do(promote, model):
    model.set_alias("champion", model.add())
    version = model.add(rmse=24_000.0)

    with pytest.raises(MLflowProviderError) as raised:
        promote(version)

    assert str(raised.value) == (
        f"Version 1 of {model.name!r} has no metric 'rmse'; it has no metric at all. "
        "Log it there, or delete alias 'champion': the next version is then the first."
    )
    assert model.aliases == {"champion": "1"}


# NaN and infinity, which MLflow takes as strings


@pytest.mark.parametrize(("value", "shown"), [("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "-inf")])
@pytest.mark.parametrize("is_logged_model", [False, True])
@pytest.mark.parametrize("has_champion", [False, True])
def test_what_is_no_finite_number_is_rejected(promote, model, value, shown, is_logged_model, has_champion):
    if has_champion:
        model.set_alias("champion", model.add(rmse=25_000.0))
    version = model.add_from_logged_model({"rmse": value}) if is_logged_model else model.add(rmse=value)

    decision = promote(version)

    assert not decision["promoted"]
    assert decision["reason"] == f"rmse {shown} of version {version} is no result to judge by."
    assert decision["value"] is None
    assert model.aliases == ({"champion": "1"} if has_champion else {})


@pytest.mark.parametrize(("value", "shown"), [("NaN", "nan"), ("-Infinity", "-inf")])
def test_any_finite_number_replaces_a_champion_without_one(promote, model, value, shown):
    model.set_alias("champion", model.add_from_logged_model({"rmse": value}))

    decision = promote(model.add(rmse=25_000.0))

    assert decision["promoted"]
    assert decision["reason"] == (
        f"rmse 25000 of version 2 replaces {shown} of version 1, which is no result to judge by."
    )
    assert decision["champion_value"] is None
    assert model.aliases == {"champion": "2", "previous": "1"}


def test_an_error_of_zero_is_the_best(promote, model, champion):
    assert promote(model.add_from_logged_model({"rmse": 0.0}))["promoted"]


# What others do meanwhile


def test_a_candidate_that_is_not_there_is_an_error(promote, model, champion):
    with pytest.raises(MLflowNotFoundError, match="version=7"):
        promote("7")

    assert model.aliases == {"champion": "1"}


def test_after_the_champion_was_deleted_the_next_version_is_the_first(promote, model, champion):
    model.delete(champion)

    decision = promote(model.add(rmse=26_000.0))

    assert (decision["promoted"], decision["champion_version"]) == (True, None)
    assert model.aliases == {"champion": "2"}


def test_a_champion_that_is_deleted_after_the_comparison_is_not_kept(promote, model, champion):
    class Gate(PromoteModelVersionOperator):
        def _keep_as_previous(self, champion_version):
            with suppress(MLflowNotFoundError):
                model.delete(champion)
            super()._keep_as_previous(champion_version)

    decision = promote(model.add(rmse=24_000.0), Gate)

    assert (decision["promoted"], decision["champion_version"]) == (True, None)
    assert model.aliases == {"champion": "2"}


@pytest.mark.parametrize(
    ("other", "promoted", "champion_version"), [(23_000.0, False, "3"), (24_500.0, True, "2")]
)
def test_if_another_gate_moved_the_alias_before_it_compares_again(
    promote, model, champion, other, promoted, champion_version
):
    version, other = model.add(rmse=24_000.0), model.add(rmse=other)

    class Gate(PromoteModelVersionOperator):
        def _keep_as_previous(self, champion_version):
            super()._keep_as_previous(champion_version)
            if champion_version == champion:
                model.set_alias("champion", other)

    decision = promote(version, Gate)

    assert (decision["promoted"], decision["champion_version"]) == (promoted, other)
    assert model.aliases["champion"] == champion_version


@pytest.mark.parametrize(
    ("other", "promoted", "champion_version"), [(23_000.0, False, "3"), (24_500.0, True, "2")]
)
def test_if_another_gate_moved_the_alias_right_after_it_compares_again(
    promote, model, champion, monkeypatch, other, promoted, champion_version
):
    version, other = model.add(rmse=24_000.0), model.add(rmse=other)
    moves = iter([other])
    sleep = lambda seconds: [model.set_alias("champion", found) for found in itertools.islice(moves, 1)]  # noqa: E731
    monkeypatch.setattr(promotion, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))

    decision = promote(version)

    assert (decision["promoted"], decision["champion_version"]) == (promoted, other)
    assert model.aliases["champion"] == champion_version


def test_a_gate_waits_the_longer_for_others_the_slower_the_server_is(promote, model, champion, monkeypatch):
    slept: list[float] = []
    clock = itertools.count(step=10).__next__  # its requests took ten seconds
    monkeypatch.setattr(promotion, "time", SimpleNamespace(sleep=slept.append, monotonic=clock))

    assert promote(model.add(rmse=24_000.0))["promoted"]
    assert slept == [30]


def test_a_gate_gives_up_if_others_move_the_alias_all_the_time(promote, model, champion, monkeypatch):
    version = model.add(rmse=24_000.0)
    sleep = lambda seconds: model.set_alias("champion", champion)  # noqa: E731
    monkeypatch.setattr(promotion, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    monkeypatch.setattr(promotion, "MAX_MOVES", 3)

    with pytest.raises(MLflowProviderError, match="was moved 3 times meanwhile"):
        promote(version)


@pytest.mark.fault(
    "Several gates promote at the same time",
    sees="one champion, the best",
    green="by itself",
)
@pytest.mark.parametrize("has_champion", [False, True])
def test_of_gates_at_the_same_time_the_best_version_wins(promote, model, monkeypatch, has_champion):
    monkeypatch.setattr(promotion, "RECHECK_SECONDS", 10.0)  # on a busy machine a thread may stand still
    if has_champion:
        model.set_alias("champion", model.add(rmse=25_000.0))
    versions = [model.add(rmse=rmse) for rmse in (22_000.0, 24_000.0, 21_000.0, 23_000.0)]
    together = threading.Barrier(len(versions))

    def promote_together(version: str) -> dict[str, Any]:
        together.wait()
        return promote(version)

    with ThreadPoolExecutor(len(versions)) as pool:
        decisions = list(pool.map(promote_together, versions))

    assert model.aliases["champion"] == versions[2]
    assert decisions[2]["promoted"]


# What follows


@pytest.fixture
def gate(model: Model, champion: str) -> Iterator[Callable[..., PromoteModelVersionOperator]]:
    """A function that makes a gate for a worse version, which two tasks and a teardown follow."""
    with DAG("housing", schedule=None):

        @task
        def predict():
            pass

        @task(trigger_rule="all_done")
        def report():
            pass

        @teardown
        def clean():
            pass

        def gate(**arguments: Any) -> PromoteModelVersionOperator:
            given = {"name": model.name, "version": model.add(rmse=26_000.0), **RULE, **arguments}
            gate = PromoteModelVersionOperator(task_id="gate", **given)
            gate >> predict() >> report() >> clean()
            return gate

        yield gate


@pytest.fixture
def context(xcoms: dict[str, Any]) -> dict[str, Any]:
    """That of a mapped task, of which Airflow itself skips what follows."""
    task = SimpleNamespace(operator_extra_links=())
    ti = SimpleNamespace(task=task, xcom_push=lambda key, value: xcoms.update({key: value}), map_index=0)
    return {"ti": ti}


def test_by_default_all_that_follows_is_skipped_whatever_its_trigger_rule(gate, context, xcoms):
    decision = gate().execute(context)

    assert sorted(xcoms["skipmixin_key"]["skipped"]) == ["predict", "report"]
    assert not decision["promoted"]
    assert xcoms["return_value"] == decision


def test_if_asked_a_rejected_version_is_a_failure_without_retry(gate, context):
    with pytest.raises(
        AirflowFailException, match=r"^Version 2 of 'housing-.*': rmse 26000 of version 2 is not"
    ):
        gate(if_rejected="fail").execute(context)


def test_if_asked_what_follows_a_rejected_version_runs(gate, context, xcoms):
    decision = gate(if_rejected="continue").execute(context)

    assert not decision["promoted"]
    assert "skipmixin_key" not in xcoms


def test_the_version_its_button_and_its_uri_are_pushed(promote, model, champion, xcoms):
    promote(model.add(rmse=24_000.0))

    page = f"{model.hook.connection.url}/#/models/{model.name}/versions/2?workflowType=machine_learning"
    assert xcoms == {
        "name": model.name,
        "version": "2",
        "model_uri": f"models:/{model.name}/2",
        "mlflow_model_version_link": page,
    }


@pytest.mark.parametrize(
    ("rmse", "line"),
    [
        (24_000.0, "Promoted: rmse 24000 of version 2 is better than 25000 of version 1: {page}"),
        (26_000.0, "Not promoted: rmse 26000 of version 2 is not better than 25000 of version 1: {page}"),
    ],
)
def test_the_log_says_what_was_decided_with_both_figures_and_the_page(
    promote, model, champion, logged, xcoms, rmse, line
):
    promote(model.add(rmse=rmse))

    assert logged[-1] == line.format(page=xcoms["mlflow_model_version_link"])


# A person approves; that Airflow asks and goes on is tested with a real scheduler, in the stack's tests


class Asked(BaseException):
    """Raised where Airflow would wait."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str]]]:
    """What a person was asked: subject, body, options."""
    asked = []

    def wait(context: Any, subject: str, body: str, options: list[str]) -> None:
        asked.append((subject, body, options))
        raise Asked

    monkeypatch.setattr(promotion, "wait_for_response", wait)
    return asked


def answered(option: str) -> dict[str, Any]:
    """Airflow's event for an answer."""
    return {"chosen_options": [option], "params_input": {}, "responded_by_user": {"id": "1", "name": "ada"}}


@pytest.fixture
def go_on(model: Model, context: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """A function that lets the gate for a version go on with an answer."""

    def go_on(version: str, event: dict[str, Any] | None, **arguments: Any) -> dict[str, Any]:
        given = {"name": model.name, "version": version, **RULE, "wait_for_approval": True, **arguments}
        return PromoteModelVersionOperator(task_id="gate", **given).execute_complete(context, event)

    return go_on


def test_a_person_is_shown_both_figures_both_versions_and_the_run(promote, model, champion, asked):
    version = model.add(rmse=24_000.0)

    with pytest.raises(Asked):
        promote(version, wait_for_approval="True")

    page = model.hook.connection.page
    run = model.hook.get_run(model.version(version)["run_id"])["info"]
    artifacts = page(f"experiments/{run['experiment_id']}/runs/{run['run_id']}/artifacts")
    body = f"""rmse 24000 of version 2 is better than 25000 of version 1.

| | version | rmse |
|---|---|---|
| candidate | [version 2]({page(f"models/{model.name}/versions/2")}) | 24000 |
| champion | [version 1]({page(f"models/{model.name}/versions/1")}) | 25000 |

[Figures of version 2]({artifacts}), among its run's artifacts"""
    subject = f"Give version 2 of {model.name!r} the alias 'champion'?"
    assert asked == [(subject, body, ["Approve", "Reject"])]
    assert model.aliases == {"champion": "1"}


def test_for_a_first_champion_a_person_is_asked_too(promote, model, asked):
    version = model.add(rmse=25_000.0)

    with pytest.raises(Asked):
        promote(version, wait_for_approval=True)

    assert asked[0][1].startswith("rmse 25000 of version 1, and there is no champion yet.")


def test_a_person_is_asked_neither_for_what_is_not_better_nor_for_the_champion(
    promote, model, champion, asked
):
    promote(model.add(rmse=26_000.0), wait_for_approval=True)
    promote(champion, wait_for_approval=True)

    assert asked == []


def test_what_is_approved_is_promoted(go_on, model, champion):
    decision = go_on(model.add(rmse=24_000.0), answered("Approve"))

    assert decision["promoted"]
    assert decision["reason"] == (
        "rmse 24000 of version 2 is better than 25000 of version 1. Approved by ada."
    )
    assert model.aliases == {"champion": "2", "previous": "1"}


def test_what_a_person_rejects_is_not_promoted(go_on, model, champion):
    decision = go_on(model.add(rmse=24_000.0), answered("Reject"))

    assert not decision["promoted"]
    assert decision["reason"] == (
        "rmse 24000 of version 2 is better than 25000 of version 1. Rejected by ada."
    )
    assert model.aliases == {"champion": "1"}


def test_what_a_person_rejects_fails_if_asked(go_on, model, champion):
    version = model.add(rmse=24_000.0)

    with pytest.raises(AirflowFailException, match=r"Rejected by ada\.$"):
        go_on(version, answered("Reject"), if_rejected="fail")


def test_what_is_approved_is_compared_again_with_the_champion_of_now(go_on, model, champion):
    version = model.add(rmse=24_000.0)
    model.set_alias("champion", model.add(rmse=23_000.0))

    decision = go_on(version, answered("Approve"))

    assert (decision["promoted"], decision["champion_version"]) == (False, "3")
    assert model.aliases == {"champion": "3"}


@pytest.mark.parametrize("event", [None, {"error": "no input", "error_type": "unknown"}, answered("Later")])
def test_without_an_answer_nothing_is_promoted(go_on, model, champion, event):
    version = model.add(rmse=24_000.0)

    with pytest.raises(MLflowProviderError, match=r"^Neither Approve nor Reject was the answer, but "):
        go_on(version, event)

    assert model.aliases == {"champion": "1"}


def test_what_it_returns_is_json(go_on, model, champion):
    json.dumps(go_on(model.add(rmse="NaN"), answered("Approve")), allow_nan=False)
