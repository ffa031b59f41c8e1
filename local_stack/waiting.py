"""Wait for several things at once, and report each one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


def wait_for(
    console: Console, find_missing: Callable[[], list[str]], timeout: float, verb: str = "is up"
) -> list[str]:
    """Wait until nothing is missing.

    A terminal shows what is missing. Each thing that is no longer missing gets a line.

    :param find_missing: returns the names of what is missing.
    :param timeout: seconds after which to give up.
    :param verb: what to print after a name that is no longer missing.
    :return: what is still missing.
    """
    start = time.monotonic()
    missing = find_missing()
    with console.status("") as status:
        while missing and (seconds := time.monotonic() - start) < timeout:
            status.update(f"{seconds:.0f} s, waiting for {', '.join(missing)}")
            time.sleep(0.3)
            previous, missing = missing, find_missing()
            for name in previous:
                if name not in missing:
                    console.print(f"{name} {verb} ({time.monotonic() - start:.0f} s)")
    return missing
