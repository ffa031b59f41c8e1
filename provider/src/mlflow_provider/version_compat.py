"""What lies in different places in the Airflow versions that the provider supports."""

from __future__ import annotations

from airflow.sdk._shared.secrets_masker import redact

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
except ImportError:  # Airflow 3.1 and 3.2: tasks cannot wait for people yet
    pass
else:
    DEFERRALS += (TaskAwaitingInput,)

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
]
