"""Environment variables, set for the duration of a block, then restored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables for the duration of a block, then restore them, also after an error.

    :param variables: values by name; None removes a variable.
    """
    previous = {name: os.environ.get(name) for name in variables}
    try:
        set_environment(variables)
        yield
    finally:
        set_environment(previous)


def set_environment(variables: Mapping[str, str | None]) -> None:
    """Set environment variables; None removes one."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
