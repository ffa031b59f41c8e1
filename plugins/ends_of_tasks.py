"""Lets Airflow see at once that a task has ended, where the scheduler forks its tasks, on Linux.

A task's supervisor wakes when the task's process closes its sockets, looks once whether that process is gone,
and again only after `[workers] min_heartbeat_interval`. Where it wakes on the CPU of that very process, and
takes it over, the process is not gone yet: on two cores, so it was after a third of all short tasks. What has
the policy SCHED_BATCH takes over no CPU when it wakes. The scheduler hands it down to supervisors and tasks.

.. seealso:: `man 7 sched`
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin


class SchedulerStart:
    """Hears of the scheduler before it forks."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        if sys.platform == "linux" and sys.argv[1:2] == ["scheduler"]:
            with suppress(OSError):  # a container may forbid it
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class EndsOfTasksPlugin(AirflowPlugin):
    name = "ends_of_tasks"
    listeners = [SchedulerStart()]
