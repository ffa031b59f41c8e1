"""Every private or undocumented name of MLflow that the provider uses.

A name that is missing or has changed never fails a task: :func:`optional` logs it once, and the feature falls
back to the public alternative, or is skipped; each name has its consequence below.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

_logged: set[PrivateName] = set()


@dataclass(frozen=True)
class PrivateName:
    """A name of MLflow that is private or undocumented.

    :param path: where it is, e.g. ``mlflow.tracking.fluent._active_run_stack``.
    :param purpose: the feature that needs it.
    :param public: the public alternative, and what it lacks.
    :param without: what happens if this MLflow does not have the name.
    """

    path: str
    purpose: str
    public: str
    without: str

    def get(self) -> Any:
        """Return the object of this name.

        :raises AttributeError, ImportError: this MLflow does not have it.
        """
        module, _, attribute = self.path.rpartition(".")
        return getattr(importlib.import_module(module), attribute)

    def set(self, value: object) -> None:
        """Replace the object of this name."""
        module, _, attribute = self.path.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)


ACTIVE_RUNS = PrivateName(
    "mlflow.tracking.fluent._active_run_stack",
    purpose="make the task's run active, and hide runs that were active before",
    public="mlflow.start_run(run_id) sends three requests, and fails if another run is active",
    without="mlflow.start_run(run_id, nested=True) is used",
)
ACTIVE_EXPERIMENT = PrivateName(
    "mlflow.tracking.fluent._active_experiment_id",
    purpose="forget the experiment that an earlier block in this process has set",
    public="mlflow.set_experiment() sends a request, and cannot unset",
    without="a second block starts in the experiment that the first one set",
)
AUTOLOGGING = PrivateName(
    "mlflow.utils.autologging_utils.AUTOLOGGING_INTEGRATIONS",
    purpose="restore autologging at the end of a block, for the next task of dag.test()",
    public="mlflow.autolog(disable=True) also disables what was enabled before the block",
    without="it is used, but only after `autolog`",
)
LOGGING_STREAM = PrivateName(
    "mlflow.utils.logging_utils.MLFLOW_LOGGING_STREAM",
    purpose="show what MLflow prints as information; Airflow shows all of stderr as errors",
    public="none; disabling the stream would hide the messages",
    without="these messages are shown as errors",
)
S3_CLIENTS = PrivateName(
    "mlflow.store.artifact.s3_artifact_repo._cached_get_s3_client",
    purpose="let S3 clients use the keys of this block; MLflow caches clients by endpoint",
    public="none",
    without="a second block in this process may use the keys of the first",
)
ARTIFACT_REPOSITORY = PrivateName(
    "mlflow.store.artifact.artifact_repository_registry.get_artifact_repository",
    purpose="delete the artifact that the doctor wrote",
    public="none; MLflow's client deletes no artifacts",
    without="the artifact of the deleted run stays until `mlflow gc`",
)

TRACING = PrivateName(
    "mlflow.tracing.processor.base_mlflow",
    purpose="preload a module that mlflow imports when it is pointed at a server",
    public="none",
    without="each task imports it, which takes 35 ms",
)
REQUEST_HEADERS = PrivateName(
    "mlflow.tracking.request_header.registry",
    purpose="preload a module that mlflow imports with its first request",
    public="none",
    without="each task imports it, which takes 5 ms",
)

NAMES = (
    ACTIVE_RUNS,
    ACTIVE_EXPERIMENT,
    AUTOLOGGING,
    LOGGING_STREAM,
    S3_CLIENTS,
    ARTIFACT_REPOSITORY,
    TRACING,
    REQUEST_HEADERS,
)


@contextmanager
def optional(name: PrivateName) -> Iterator[None]:
    """Skip the rest of a block, with one line in the log, if it fails because MLflow has changed.

    For blocks that use the name and do nothing else.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001  # a changed name may fail in any way
        if name not in _logged:
            _logged.add(name)
            log.warning("Cannot use %s of this version of mlflow (%r): %s.", name.path, error, name.without)


@contextmanager
def replaced(name: PrivateName, replacement: Callable[[Any], object]) -> Iterator[None]:
    """Replace the object of a name for the duration of a block, if this MLflow has it.

    :param replacement: returns the new object, given the previous one.
    """
    is_replaced, previous = False, None
    with optional(name):
        previous = name.get()
        name.set(replacement(previous))
        is_replaced = True
    try:
        yield
    finally:
        if is_replaced:
            name.set(previous)
