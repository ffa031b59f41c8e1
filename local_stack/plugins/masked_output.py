"""Mask secrets in what Airflow's components print, as Airflow does in the logs of tasks.

LocalExecutor also copies the output of tasks to that of the scheduler, unmasked, and no setting prevents it:
``airflow.executors.local_executor._run_worker`` passes ``subprocess_logs_to_stdout=True``.
"""

from __future__ import annotations

from typing import Any

import structlog
from airflow.plugins_manager import AirflowPlugin
from airflow.providers.common.compat.sdk import redact


def mask(_logger: Any, _method: str, event: Any) -> Any:
    """Mask the secrets that the process knows; those of a task are known to its supervisor."""
    return redact(event)


class MaskedOutputPlugin(AirflowPlugin):
    """Add the masking before the processor that renders the line."""

    name = "masked_output"

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        """Change the list in place, because loggers keep it."""
        structlog.get_config()["processors"].insert(-1, mask)
