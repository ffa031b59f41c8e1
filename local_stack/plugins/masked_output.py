"""Mask secrets in what Airflow's components print, as Airflow does in the logs of tasks.

LocalExecutor also copies the output of tasks to that of the scheduler, unmasked, and no setting prevents it:
``airflow.executors.local_executor._run_worker`` passes ``subprocess_logs_to_stdout=True``.
"""

from __future__ import annotations

from typing import Any

import structlog
from airflow.plugins_manager import AirflowPlugin
from airflow.providers.common.compat.sdk import redact


class MaskedOutputPlugin(AirflowPlugin):
    """Mask the secrets that a process knows; the supervisor of a task knows those of the task."""

    name = "masked_output"

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        """Mask just before a line is rendered; in place, because loggers keep this list."""
        processors = structlog.get_config()["processors"]
        processors.insert(-1, lambda _logger, _method, event: redact(event))
