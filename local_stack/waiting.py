"""Wait for several things at once, and tell of each as it comes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


def wait_for(
    console: Console, missing: Callable[[], list[str]], patience: float, verb: str = "is up"
) -> list[str]:
    """Ask again and again what is missing, until that is nothing.

    A terminal shows what is waited for; elsewhere there is one line for each thing that came.

    :param missing: returns the names of what is still missing.
    :param patience: when to give up, in seconds.
    :param verb: what a thing does that is no longer missing.
    :return: what is missing in the end.
    """
    began = time.monotonic()
    waiting = missing()
    with console.status("") as status:
        while waiting and (seconds := time.monotonic() - began) < patience:
            status.update(f"{seconds:.0f} s, waiting for {', '.join(waiting)}")
            time.sleep(0.3)
            before, waiting = waiting, missing()
            for name in before:
                if name not in waiting:
                    console.print(f"{name} {verb} ({time.monotonic() - began:.0f} s)")
    return waiting
