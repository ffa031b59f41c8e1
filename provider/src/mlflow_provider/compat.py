"""Every difference between the Airflow versions the provider supports."""

from airflow.sdk._shared.secrets_masker import redact

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTerminated,
        AirflowTaskTimeout,
        TaskDeferred,
    )
except ImportError:  # Airflow 3.1: the exceptions have not moved to the SDK yet
    from airflow.exceptions import (  # type: ignore[no-redef]
        AirflowException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTerminated,
        AirflowTaskTimeout,
        TaskDeferred,
    )

# What a task raises that goes on later, in another process.
PAUSES: tuple[type[BaseException], ...] = (TaskDeferred, AirflowRescheduleException)
try:
    from airflow.sdk.exceptions import TaskAwaitingInput
except ImportError:  # Airflow 3.1 and 3.2: tasks do not wait for people yet
    pass
else:
    PAUSES += (TaskAwaitingInput,)

__all__ = [
    "PAUSES",
    "AirflowException",
    "AirflowNotFoundException",
    "AirflowSkipException",
    "AirflowTaskTerminated",
    "AirflowTaskTimeout",
    "redact",
]
