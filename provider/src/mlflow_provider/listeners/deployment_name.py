"""Choose the name of this deployment as the scheduler starts, before any task asks for it.

See :mod:`mlflow_provider.tracking.deployment`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)


@hookimpl
def on_starting(component: Any) -> None:
    """Choose a name in a scheduler, which may write to Airflow's database; not in a task forked from it."""
    if sys.argv[1:2] != ["scheduler"] or type(component).__name__ != "Job":
        return
    from mlflow_provider.tracking import deployment

    try:
        deployment.choose_name()
    except Exception:  # the scheduler starts, and a task chooses
        log.warning("No name was chosen that tells this deployment's MLflow runs from others'", exc_info=True)
