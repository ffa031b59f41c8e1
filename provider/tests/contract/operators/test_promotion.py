"""Promotion at a real registry: the alias moves to better versions only."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, task, teardown

from mlflow_provider.exceptions import MLflowNotFoundError, MLflowProviderError
from mlflow_provider.operators import promotion
from mlflow_provider.operators.promotion import PromoteModelVersionOperator
from mlflow_provider.operators.registry import RegisterModelOperator
from mlflow_servers import run_replicated_server

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
        return self.hook.get_or_create_experiment("Promotion")

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
    """A function that promotes a version and returns the decision."""
    return lambda version, operator_class=PromoteModelVersionOperator, **arguments: execute(
        operator_class, **{"name": model.name, "version": version, **RULE, **arguments}
    )


def test_the_first_version_becomes_champion(promote, model):
    decision = promote(model.add(rmse=25_000.0))

    assert (decision["promoted"], decision["champion_version"], decision["champion_value"]) == (
        True,
        None,
        None,
    )
    assert decision["reason"] == "rmse 25000 of version 1, and there is no champion yet."
    assert model.aliases == {"champion": "1"}


def test_a_better_version_replaces_the_champion(promote, model, champion):
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
def test_a_version_that_is_not_better_is_rejected(promote, model, champion, value):
    decision = promote(model.add(rmse=value))

    assert not decision["promoted"]
    assert decision["reason"] == f"rmse {value:g} of version 2 is not better than 25000 of version 1."
    assert model.aliases == {"champion": "1"}


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
def test_without_a_previous_alias_the_replaced_version_has_no_alias(promote, model, champion, previous_alias):
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
def test_an_invalid_argument_is_an_error(promote, model, champion, argument, problem):
    version = model.add(rmse=24_000.0)

    with pytest.raises(ValueError, match=f"^{problem}$"):
        promote(version, **argument)

    assert model.aliases == {"champion": "1"}


# Retries


def test_a_retry_after_the_promotion_changes_nothing(promote, model, champion):
    version = model.add(rmse=24_000.0)
    promote(version)

    decision = promote(version)

    assert decision["promoted"]
    assert (decision["champion_version"], decision["champion_value"]) == ("2", 24_000.0)
    assert decision["reason"] == "Version 2 already has alias 'champion'."
    assert model.aliases == {"champion": "2", "previous": "1"}


def test_a_retry_after_only_the_previous_alias_was_set_promotes(promote, model, champion):
    model.set_alias("previous", champion)

    assert promote(model.add(rmse=24_000.0))["promoted"]

    assert model.aliases == {"champion": "2", "previous": "1"}


# Where the value comes from


@pytest.mark.parametrize(
    ("model_metrics", "run_metrics"),
    [
        pytest.param([{"rmse": 24_000.0}], {"rmse": 1.0}, id="the logged model comes first"),
        pytest.param([{"rmse": value} for value in (3e4, 2e4, 2.4e4)], {}, id="the newest value counts"),
        pytest.param([{"mae": 1.0}], {"rmse": 24_000.0}, id="the run has what the logged model lacks"),
    ],
)
def test_the_value_is_that_of_the_logged_model_or_else_the_run(
    promote, model, champion, model_metrics, run_metrics
):
    version = model.add_from_logged_model(*model_metrics, run_metrics=run_metrics)

    assert promote(version)["value"] == 24_000.0


def test_the_run_counts_if_the_logged_model_was_deleted(promote, model, champion):
    version = model.add_from_logged_model({"mae": 1.0}, run_metrics={"rmse": 24_000.0})
    model.hook.call("DELETE", f"logged-models/{model.version(version)['source'].removeprefix('models:/')}")

    assert promote(version)["value"] == 24_000.0


def test_a_metric_that_the_candidate_lacks_is_an_error_with_the_metrics_it_has(promote, model, champion):
    version = model.add_from_logged_model({"mae": 1.0}, run_metrics={"r2": 0.9})

    with pytest.raises(MLflowProviderError) as error:
        promote(version)

    assert str(error.value) == f"Version 2 of {model.name!r} has no metric 'rmse'; it has mae, r2."
    assert model.aliases == {"champion": "1"}


def test_a_metric_that_the_champion_lacks_is_an_error_with_advice(promote, model):
    model.set_alias("champion", model.add())
    version = model.add(rmse=24_000.0)

    with pytest.raises(MLflowProviderError) as error:
        promote(version)

    assert str(error.value) == (
        f"Version 1 of {model.name!r} has no metric 'rmse'; it has no metrics. "
        "Log the metric there, or delete alias 'champion' to start over."
    )
    assert model.aliases == {"champion": "1"}


# NaN and infinity, which MLflow accepts as strings


@pytest.mark.parametrize(("value", "text"), [("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "-inf")])
@pytest.mark.parametrize("is_logged_model", [False, True])
@pytest.mark.parametrize("has_champion", [False, True])
def test_a_value_that_is_not_finite_is_rejected(promote, model, value, text, is_logged_model, has_champion):
    if has_champion:
        model.set_alias("champion", model.add(rmse=25_000.0))
    version = model.add_from_logged_model({"rmse": value}) if is_logged_model else model.add(rmse=value)

    decision = promote(version)

    assert not decision["promoted"]
    assert decision["reason"] == f"rmse {text} of version {version} is not a finite number."
    assert decision["value"] is None, "JSON has no NaN"
    assert model.aliases == ({"champion": "1"} if has_champion else {})


@pytest.mark.parametrize(("value", "text"), [("NaN", "nan"), ("-Infinity", "-inf")])
def test_any_finite_number_replaces_a_champion_without_one(promote, model, value, text):
    model.set_alias("champion", model.add_from_logged_model({"rmse": value}))

    decision = promote(model.add(rmse=25_000.0))

    assert decision["promoted"]
    assert decision["reason"] == (
        f"rmse 25000 of version 2 replaces {text} of version 1, which is not a finite number."
    )
    assert decision["champion_value"] is None
    assert model.aliases == {"champion": "2", "previous": "1"}


def test_an_error_of_zero_is_the_best(promote, model, champion):
    assert promote(model.add_from_logged_model({"rmse": 0.0}))["promoted"]


# Changes by other programs


def test_a_missing_candidate_is_an_error(promote, model, champion):
    with pytest.raises(MLflowNotFoundError, match="version=7"):
        promote("7")

    assert model.aliases == {"champion": "1"}


@pytest.mark.parametrize("moment", ["before the comparison", "after the comparison"])
def test_a_version_is_the_first_once_the_champion_is_deleted(promote, model, champion, moment):
    class Promote(PromoteModelVersionOperator):
        def _keep_as_previous(self, champion_version):
            if moment == "after the comparison" and champion_version:
                model.delete(champion)
            super()._keep_as_previous(champion_version)

    version = model.add(rmse=24_000.0)
    if moment == "before the comparison":
        model.delete(champion)

    decision = promote(version, Promote)

    assert (decision["promoted"], decision["champion_version"]) == (True, None)
    assert model.aliases == {"champion": "2"}


@pytest.mark.parametrize(
    ("other", "promoted", "champion_version"), [(23_000.0, False, "3"), (24_500.0, True, "2")]
)
@pytest.mark.parametrize("last_alias", ["previous", "champion"], ids=["before the move", "after the move"])
def test_versions_are_compared_again_if_another_task_moves_the_alias(
    promote, model, champion, monkeypatch, last_alias, other, promoted, champion_version
):
    version, other = model.add(rmse=24_000.0), model.add(rmse=other)
    moves = iter([other])

    class Promote(PromoteModelVersionOperator):
        def _set_alias(self, alias, version):
            super()._set_alias(alias, version)
            if alias == last_alias:
                for move in itertools.islice(moves, 1):
                    model.set_alias("champion", move)

    monkeypatch.setattr(promotion, "RECHECK_SECONDS", 0.0)

    decision = promote(version, Promote)

    assert (decision["promoted"], decision["champion_version"]) == (promoted, other)
    assert model.aliases["champion"] == champion_version


def test_a_version_is_registered_and_promoted_once_although_a_replica_is_behind(
    mlflow_server, tmp_path, airflow_connection, model, champion, logged_model, promote, execute, logged
):
    with run_replicated_server(mlflow_server, tmp_path, lag=2) as server:
        airflow_connection(host=server.url)
        register = {"model_uri": logged_model.uri, "name": model.name, "alias": "challenger"}
        version = execute(RegisterModelOperator, **register)["model_version"]["version"]
        decision = promote(version)

    assert (version, decision["promoted"], decision["champion_version"]) == ("2", True, champion)
    assert not any("moved by another program" in line for line in logged)


def test_the_slower_the_server_the_later_the_second_look(promote, model, champion, monkeypatch):
    pauses: list[float] = []
    clock = itertools.count(step=10).__next__  # each request takes ten seconds
    monkeypatch.setattr(promotion, "time", SimpleNamespace(sleep=pauses.append, monotonic=clock))

    assert promote(model.add(rmse=24_000.0))["promoted"]
    assert pauses == [30]


def test_a_promotion_gives_up_if_others_keep_moving_the_alias(promote, model, champion, monkeypatch):
    version = model.add(rmse=24_000.0)
    sleep = lambda seconds: model.set_alias("champion", champion)  # noqa: E731
    monkeypatch.setattr(promotion, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    monkeypatch.setattr(promotion, "MAX_MOVES", 3)

    with pytest.raises(MLflowProviderError, match="was moved 3 times by other programs"):
        promote(version)


@pytest.mark.fault(
    "Several tasks promote at the same time",
    sees="one champion, the best",
    green="by itself",
)
@pytest.mark.parametrize("has_champion", [False, True])
def test_of_simultaneous_promotions_the_best_version_wins(promote, model, monkeypatch, has_champion):
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


# Downstream tasks


@pytest.fixture
def rejecting(model: Model, champion: str) -> Iterator[Callable[..., PromoteModelVersionOperator]]:
    """A function that makes an operator for a worse version, followed by two tasks and a teardown."""
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

        def rejecting(**arguments: Any) -> PromoteModelVersionOperator:
            defaults = {"name": model.name, "version": model.add(rmse=26_000.0), **RULE}
            promote = PromoteModelVersionOperator(task_id="promote", **{**defaults, **arguments})
            promote >> predict() >> report() >> clean()
            return promote

        yield rejecting


@pytest.fixture
def context(xcoms: dict[str, Any]) -> dict[str, Any]:
    """The context of a mapped task, whose downstream tasks Airflow itself skips."""
    task = SimpleNamespace(operator_extra_links=())
    ti = SimpleNamespace(task=task, xcom_push=lambda key, value: xcoms.update({key: value}), map_index=0)
    return {"ti": ti}


def test_by_default_all_downstream_tasks_are_skipped_with_any_trigger_rule(rejecting, context, xcoms):
    decision = rejecting().execute(context)

    assert sorted(xcoms["skipmixin_key"]["skipped"]) == ["predict", "report"]
    assert not decision["promoted"]
    assert xcoms["return_value"] == decision


def test_with_fail_a_rejected_version_fails_the_task_without_retry(rejecting, context):
    with pytest.raises(
        AirflowFailException, match=r"^Version 2 of 'housing-.*': rmse 26000 of version 2 is not"
    ):
        rejecting(if_rejected="fail").execute(context)


def test_with_continue_downstream_tasks_run_after_a_rejected_version(rejecting, context, xcoms):
    decision = rejecting(if_rejected="continue").execute(context)

    assert not decision["promoted"]
    assert "skipmixin_key" not in xcoms


@pytest.mark.parametrize(
    ("rmse", "line"),
    [
        (24_000.0, "Promoted: rmse 24000 of version 2 is better than 25000 of version 1: {page}"),
        (26_000.0, "Not promoted: rmse 26000 of version 2 is not better than 25000 of version 1: {page}"),
    ],
)
def test_the_candidate_is_pushed_and_the_decision_logged(promote, model, champion, logged, xcoms, rmse, line):
    promote(model.add(rmse=rmse))

    page = f"{model.hook.connection.url}/#/models/{model.name}/versions/2?workflowType=machine_learning"
    assert xcoms == {
        "name": model.name,
        "version": "2",
        "model_uri": f"models:/{model.name}/2",
        "mlflow_model_version_link": page,
    }
    assert logged[-1] == line.format(page=page)


# Approval; dev/tests/stack has it with a real scheduler


class Waiting(BaseException):
    """Raised where Airflow would wait for a response."""


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str]]]:
    """Subject, body and options of each question."""
    questions = []

    def wait(context: Any, subject: str, body: str, options: list[str]) -> None:
        questions.append((subject, body, options))
        raise Waiting

    monkeypatch.setattr(promotion, "wait_for_response", wait)
    return questions


def response(option: str) -> dict[str, Any]:
    """Airflow's event for a response."""
    return {"chosen_options": [option], "params_input": {}, "responded_by_user": {"id": "1", "name": "ada"}}


@pytest.fixture
def resume(model: Model, context: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """A function that continues the promotion of a version with a response."""

    def resume(version: str, event: dict[str, Any] | None, **arguments: Any) -> dict[str, Any]:
        defaults = {"name": model.name, "version": version, **RULE, "wait_for_approval": True}
        operator = PromoteModelVersionOperator(task_id="promote", **{**defaults, **arguments})
        return operator.execute_complete(context, event)

    return resume


def test_a_request_for_approval_shows_both_values_both_versions_and_the_run(
    promote, model, champion, questions
):
    version = model.add(rmse=24_000.0)

    with pytest.raises(Waiting):
        promote(version, wait_for_approval="True")

    page = model.hook.connection.page
    run = model.hook.get_run(model.version(version)["run_id"])["info"]
    artifacts = page(f"experiments/{run['experiment_id']}/runs/{run['run_id']}/artifacts")
    body = f"""rmse 24000 of version 2 is better than 25000 of version 1.

| | version | rmse |
|---|---|---|
| candidate | [version 2]({page(f"models/{model.name}/versions/2")}) | 24000 |
| champion | [version 1]({page(f"models/{model.name}/versions/1")}) | 25000 |

[Artifacts of the run that logged rmse of version 2]({artifacts})"""
    subject = f"Give version 2 of {model.name!r} the alias 'champion'?"
    assert questions == [(subject, body, ["Approve", "Reject"])]
    assert model.aliases == {"champion": "1"}


def test_a_request_for_approval_links_the_run_that_evaluated_the_model(promote, model, questions):
    version = model.add_from_logged_model()
    evaluation = model._run()
    model._log(evaluation, {"rmse": 24_000.0}, model.version(version)["source"].removeprefix("models:/"))

    with pytest.raises(Waiting):
        promote(version, wait_for_approval=True)

    assert f"/runs/{evaluation}/artifacts" in questions[0][1]


def test_a_first_champion_also_needs_approval(promote, model, questions):
    version = model.add(rmse=25_000.0)

    with pytest.raises(Waiting):
        promote(version, wait_for_approval=True)

    assert questions[0][1].startswith("rmse 25000 of version 1, and there is no champion yet.")


def test_neither_a_worse_version_nor_the_champion_needs_approval(promote, model, champion, questions):
    promote(model.add(rmse=26_000.0), wait_for_approval=True)
    promote(champion, wait_for_approval=True)

    assert questions == []


@pytest.mark.parametrize(
    ("option", "verdict", "aliases"),
    [
        ("Approve", "Approved", {"champion": "2", "previous": "1"}),
        ("Reject", "Rejected", {"champion": "1"}),
    ],
)
def test_the_response_decides(resume, model, champion, option, verdict, aliases):
    decision = resume(model.add(rmse=24_000.0), response(option))

    assert decision["promoted"] is (option == "Approve")
    assert decision["reason"] == (
        f"rmse 24000 of version 2 is better than 25000 of version 1. {verdict} by ada."
    )
    assert model.aliases == aliases


def test_with_fail_a_version_that_a_person_rejects_fails_the_task(resume, model, champion):
    version = model.add(rmse=24_000.0)

    with pytest.raises(AirflowFailException, match=r"Rejected by ada\.$"):
        resume(version, response("Reject"), if_rejected="fail")


def test_an_approved_version_is_compared_again_with_the_present_champion(resume, model, champion):
    version = model.add(rmse=24_000.0)
    model.set_alias("champion", model.add(rmse=23_000.0))

    decision = resume(version, response("Approve"))

    assert (decision["promoted"], decision["champion_version"]) == (False, "3")
    assert model.aliases == {"champion": "3"}


@pytest.mark.parametrize("event", [None, {"error": "no input", "error_type": "unknown"}, response("Later")])
def test_without_a_response_nothing_is_promoted(resume, model, champion, event):
    version = model.add(rmse=24_000.0)

    with pytest.raises(MLflowProviderError, match=r"^Expected Approve or Reject, got "):
        resume(version, event)

    assert model.aliases == {"champion": "1"}
