"""Wrap what the ``mlflow`` package offers so that each call runs inside a block, e.g. with a login.

MLflow's own clients read their login from the environment at every request, so outside of
:func:`mlflow_provider.process.tracking.tracking` they would have none.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")
Block = Callable[[], AbstractContextManager[Any]]


def run_methods_inside(block: Block, client: T) -> T:
    """Make each public method of a client run inside a block, and return the client.

    :param block: returns the block, once for each call.
    """
    for name, _ in inspect.getmembers(type(client), inspect.isroutine):
        if not name.startswith("_"):
            setattr(client, name, _inside(block, getattr(client, name)))
    return client


def copy_with_functions_inside(block: Block, module: ModuleType) -> ModuleType:
    """Return a copy of a module each of whose public functions runs inside a block.

    :param block: returns the block, once for each call.
    """
    module_copy = ModuleType(module.__name__, module.__doc__)
    for name, value in vars(module).items():
        is_public_function = inspect.isroutine(value) and not name.startswith("_")
        setattr(module_copy, name, _inside(block, value) if is_public_function else value)
    return module_copy


def _inside(block: Block, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    return call
