"""Tasks and triggers end as they should without Airflow's private names; see also test_preload.py."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk import Variable

from mlflow_provider import task_run, version_compat
from mlflow_provider.operators.promotion import PromoteModelVersionOperator
from mlflow_provider.triggers.registry import MLflowRegistryEventTrigger
from tries import Try

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
def warnings(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, to which each missing name is written once per process."""
    version_compat._log_missing.cache_clear()
    caplog.set_level(logging.WARNING, version_compat.__name__)
    return caplog


def test_a_tracked_task_runs_without_the_context_from_the_server(hook, name, warnings):
    a_try = Try("manual__1")
    context = a_try.context
    del context["ti"]._ti_context_from_server

    with task_run(context=context, experiment=name):
        pass

    run = hook.get_run(a_try.xcoms["mlflow_run_id"])
    assert run["info"]["status"] == "FINISHED"
    assert "RuntimeTaskInstance._ti_context_from_server" in warnings.text


def test_a_watch_reports_an_event_without_the_stores_by_name(model, monkeypatch, warnings):
    variables: dict[str, Any] = {}
    monkeypatch.setattr(Variable, "get", lambda key, default, deserialize_json: variables.get(key, default))
    monkeypatch.setattr(
        Variable, "set", lambda key, value, description, serialize_json: variables.update({key: value})
    )
    watch = MLflowRegistryEventTrigger(model.name, poll_interval=0.05)
    watch.asset_state_store = SimpleNamespace()

    async def next_version() -> str:
        events: AsyncIterator[Any] = watch.run()
        event = asyncio.ensure_future(anext(events))
        while not variables:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(model.create_version)
        return (await event).payload["version"]

    assert asyncio.run(next_version()) == "3"
    assert "AssetStateStoreAccessors._by_name" in warnings.text


@pytest.mark.parametrize("is_missing", [False, True])
def test_a_promotion_asks_for_approval_with_and_without_the_function_for_it(
    hook, logged_model, registered_model, monkeypatch, warnings, is_missing
):
    questions: list[dict[str, Any]] = []
    ask = lambda **question: questions.append(question)  # noqa: E731
    if is_missing:
        monkeypatch.delattr("airflow.sdk.execution_time.hitl.upsert_hitl_detail")
        monkeypatch.setattr(hitl, "upsert_hitl_detail", ask)
    else:
        monkeypatch.setattr("airflow.sdk.execution_time.hitl.upsert_hitl_detail", ask)
    registered_model.create()
    version = {"name": registered_model.name, "source": logged_model.uri, "model_id": logged_model.model_id}
    hook.call("POST", "model-versions/create", version | {"run_id": logged_model.run_id})
    gate = PromoteModelVersionOperator(
        task_id="gate",
        name=registered_model.name,
        version="1",
        metric="rmse",
        greater_is_better=False,
        wait_for_approval=True,
    )
    task = SimpleNamespace(operator_extra_links=())
    ti = SimpleNamespace(id="ti", task_id="gate", task=task, xcom_push=lambda key, value: None)
    context: Any = {"ti": ti, "task_instance": ti}

    with pytest.raises(version_compat.DEFERRALS) as deferred:
        gate.execute(context)
    decision = gate.execute_complete(context, {"chosen_options": ["Approve"]})

    [question] = questions
    assert (question["ti_id"], question["options"]) == ("ti", ["Approve", "Reject"])
    assert question["subject"].startswith("Give version 1 of")
    assert deferred.value.method_name == "execute_complete"
    assert decision["promoted"]
    assert ("hitl.upsert_hitl_detail" in warnings.text) is is_missing
