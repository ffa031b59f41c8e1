"""How a task's log shows an error."""

from __future__ import annotations

from structlog.tracebacks import ExceptionDictTransformer


def exceptions_in_log(error: BaseException) -> list[str]:
    """Return the exceptions that a task's log lists for an error, in Airflow's format: causes come last.

    Source: ``structlog_processors`` in ``airflow/sdk/_shared/logging/structlog.py``.
    """
    transform = ExceptionDictTransformer(use_rich=False, show_locals=False)
    return [shown["exc_value"] for shown in transform((type(error), error, error.__traceback__))]
