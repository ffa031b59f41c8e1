"""What lies in different places in the Airflow versions that the provider supports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from airflow.sdk._shared.secrets_masker import redact

if TYPE_CHECKING:
    from airflow.sdk import Context

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTerminated,
        AirflowTaskTimeout,
        TaskDeferred,
    )
except ImportError:  # Airflow 3.1: the exceptions have not moved to the SDK yet
    from airflow.exceptions import (  # type: ignore[no-redef]
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTerminated,
        AirflowTaskTimeout,
        TaskDeferred,
    )

try:
    from airflow.sdk.configuration import conf
except ImportError:  # Airflow 3.1: the configuration has not moved to the SDK yet
    from airflow.configuration import conf

# What a task raises when it is to go on later, in another process.
DEFERRALS: tuple[type[BaseException], ...] = (TaskDeferred, AirflowRescheduleException)
try:
    from airflow.sdk.exceptions import TaskAwaitingInput
except ImportError:  # Airflow 3.1 and 3.2: the triggerer waits for people, on behalf of a deferred task
    TaskAwaitingInput = None  # type: ignore[assignment, misc]
else:
    DEFERRALS += (TaskAwaitingInput,)


def wait_for_response(context: Context, subject: str, body: str, options: Sequence[str]) -> NoReturn:
    """Ask a person under *Required Actions*; the task goes on in its ``execute_complete``.

    The same as Airflow's own ``HITLOperator``, for an operator that asks only sometimes.

    :param subject: the question.
    :param body: what to decide by, as Markdown.
    :param options: the possible answers, of which one is chosen.
    """
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail

    ti_id, method_name = context["ti"].id, "execute_complete"
    upsert_hitl_detail(ti_id=ti_id, options=list(options), subject=subject, body=body, params={})
    if TaskAwaitingInput is not None:
        raise TaskAwaitingInput(method_name=method_name)

    from airflow.providers.standard.triggers.hitl import HITLTrigger

    trigger = HITLTrigger(ti_id=ti_id, options=list(options), params={}, timeout_datetime=None)
    raise TaskDeferred(trigger=trigger, method_name=method_name)


__all__ = [
    "DEFERRALS",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTerminated",
    "AirflowTaskTimeout",
    "conf",
    "redact",
    "wait_for_response",
]
