"""Imports that moved between supported Airflow versions, and every private name of Airflow that is used.

A missing private name never fails a task: the provider logs one line that names it, and does without it.

``RuntimeTaskInstance._ti_context_from_server``
    Purpose: a first try sends one request less. Public alternative: none.
    Without it: every try searches MLflow for an earlier run.
``AssetStateStoreAccessors._by_name``
    Purpose: a watcher that several assets share keeps its cursor with each of them.
    Public alternative: the methods of the class, for a single asset; a Variable.
    Without it: the cursor is kept in a Variable.
``airflow.sdk.execution_time.hitl.upsert_hitl_detail``
    Purpose: a promotion asks for approval. Public alternative: ``HITLOperator``.
    Without it: ``HITLOperator`` asks, and logs a warning because it runs inside another operator.
``Job.latest_heartbeat``
    Purpose: a scheduler that preloads modules stays healthy. Public alternative: none.
    Without it: Airflow may report the scheduler as unhealthy until its first heartbeat.
``airflow.sdk.execution_time.supervisor``
    Purpose: a scheduler also preloads what Airflow itself needs for tasks. Public alternative: none.
    Without it: each worker imports the module with its first task.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import TaskDeferred

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseEventTrigger

try:
    from airflow.sdk.exceptions import AirflowRescheduleException, AirflowTaskTerminated
except ImportError:  # Airflow 3.1
    from airflow.exceptions import (  # type: ignore[no-redef]
        AirflowRescheduleException,
        AirflowTaskTerminated,
    )

    CALLBACKS_CAN_QUERY_TASKS = False
else:
    CALLBACKS_CAN_QUERY_TASKS = True

# A task that raises one of these continues later, in another process.
DEFERRALS: tuple[type[BaseException], ...] = (TaskDeferred, AirflowRescheduleException)
try:
    from airflow.sdk.exceptions import TaskAwaitingInput
except ImportError:  # Airflow 3.1 and 3.2, where a task defers to a trigger that waits for the response
    TaskAwaitingInput = None  # type: ignore[assignment, misc]
else:
    DEFERRALS += (TaskAwaitingInput,)

__all__ = [
    "CALLBACKS_CAN_QUERY_TASKS",
    "DEFERRALS",
    "AirflowTaskTerminated",
    "asset_state_stores",
    "import_supervisor",
    "renew_heartbeat",
    "wait_for_response",
    "was_started_before",
]

log = logging.getLogger(__name__)


@cache
def _log_missing(name: str, consequence: str) -> None:
    log.warning("This version of Airflow has no %s: %s.", name, consequence)


def was_started_before(ti: Any) -> bool | None:
    """Return whether a task instance was tried, deferred or rescheduled before; None if that is unknown."""
    try:
        server_context = ti._ti_context_from_server
        return server_context and bool(
            ti.try_number > 1 or server_context.next_method or server_context.task_reschedule_count
        )
    except AttributeError:
        _log_missing(
            "RuntimeTaskInstance._ti_context_from_server", "searching MLflow for an earlier run of the task"
        )
        return None


def asset_state_stores(trigger: BaseEventTrigger) -> list[Any] | None:
    """Return the state store of each asset that a trigger watches; None if there are none."""
    if (stores := getattr(trigger, "asset_state_store", None)) is None:  # Airflow 3.1 and 3.2
        return None
    try:
        # Assets with identical watchers share a trigger. The public methods accept one asset only.
        return list(stores._by_name.values())
    except AttributeError:
        _log_missing("AssetStateStoreAccessors._by_name", "keeping the cursor in an Airflow Variable")
        return None


def wait_for_response(context: Context, subject: str, body: str, options: Sequence[str]) -> NoReturn:
    """Wait until a person responds under *Required Actions*; the task continues in ``execute_complete``.

    Does the same as Airflow's ``HITLOperator``, for an operator that asks only in some cases.

    :param subject: the question.
    :param body: information for the decision, as Markdown.
    :param options: the possible answers, one of which is chosen.
    """
    ti: Any = context["ti"]
    try:
        from airflow.sdk.execution_time.hitl import upsert_hitl_detail

        upsert_hitl_detail(ti_id=ti.id, options=list(options), subject=subject, body=body, params={})
    except (ImportError, TypeError):
        from airflow.providers.standard.operators.hitl import HITLOperator

        _log_missing("airflow.sdk.execution_time.hitl.upsert_hitl_detail", "asking by HITLOperator")
        question = HITLOperator(task_id=ti.task_id, subject=subject, body=body, options=list(options))
        question.execute(context)  # raises what is raised below
    if TaskAwaitingInput is not None:
        raise TaskAwaitingInput(method_name="execute_complete")

    from airflow.providers.standard.triggers.hitl import HITLTrigger

    trigger = HITLTrigger(ti_id=ti.id, options=list(options), params={}, timeout_datetime=None)
    raise TaskDeferred(trigger=trigger, method_name="execute_complete")


def renew_heartbeat(job: Any) -> None:
    """Report a scheduler as alive that is still starting."""
    if hasattr(job, "latest_heartbeat"):
        job.latest_heartbeat = datetime.now(timezone.utc)
    else:
        _log_missing("Job.latest_heartbeat", "the scheduler may be reported as unhealthy while it starts")


def import_supervisor() -> None:
    """Import what Airflow itself imports with a worker's first task."""
    try:
        import airflow.sdk.execution_time.supervisor  # noqa: F401
    except ImportError:
        _log_missing("airflow.sdk.execution_time.supervisor", "each worker imports it with its first task")
