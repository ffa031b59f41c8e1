"""The processes of this clone's stack, recognised by what they carry in their environment.

Process ids and groups are no help once a parent was killed: its children live on, and keep its port. So
every component is started through this module, which first ends what an earlier life of it left behind::

    python -m local.processes mlflow mlflow server --port 5000
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

import psutil

from local.settings import ROOT

STACK = "LOCAL_STACK"  # which clone a process belongs to
COMPONENT = "LOCAL_STACK_COMPONENT"  # and which of its components; the supervisor has none


def find(component: str | None = None) -> list[psutil.Process]:
    """Return the running processes of this clone's stack, or of one component of it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # ended meanwhile, or another user's
            environment = process.environ()
            if environment.get(STACK) == str(ROOT) and component in (None, environment.get(COMPONENT)):
                found.append(process)
    return found


def end(processes: list[psutil.Process], patience: float = 3) -> None:
    """Ask the processes to end, and after ``patience`` seconds make them."""
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                ask(process)
        processes = wait(processes, patience)


def wait(processes: list[psutil.Process], patience: float) -> list[psutil.Process]:
    """Wait until the processes have ended, and return those that have not after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while processes and time.monotonic() < deadline:
        time.sleep(0.05)
        processes = [process for process in processes if _is_alive(process)]
    return processes


def _is_alive(process: psutil.Process) -> bool:
    # A zombie is not: it may stay for good where nobody asks how it ended, as in many a container.
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def memory(component: str) -> int:
    """Return the memory that a component's processes use, in bytes."""
    total = 0
    for process in find(component):
        with suppress(psutil.Error):
            used = process.memory_full_info()
            # What processes share is counted once with pss, which only Linux knows, and not at all with uss.
            total += getattr(used, "pss", used.uss)
    return total


def main() -> None:
    """Become the named component, as the only one of its name."""
    component, *command = sys.argv[1:]
    end(find(component))
    os.environ[COMPONENT] = component
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
