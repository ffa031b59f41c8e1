"""Every private or undocumented name of MLflow that the provider uses, and why no public one does.

A name that is missing or has changed never fails a task: :func:`optional` logs once what happens without it.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

_logged: set[PrivateName] = set()


@dataclass(frozen=True)
class PrivateName:
    """A name of MLflow that is private or undocumented.

    :param path: where it is, e.g. ``mlflow.tracking.fluent._active_run_stack``.
    :param without: what happens if this MLflow does not have it.
    """

    path: str
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


# Makes the task's run active, and hides runs that were active before. mlflow.start_run(run_id) sends three
# requests, and fails if another run is active.
ACTIVE_RUNS = PrivateName(
    "mlflow.tracking.fluent._active_run_stack", "mlflow.start_run(run_id, nested=True) is used"
)
# Forgets the experiment of an earlier block. mlflow.set_experiment() sends a request, and cannot unset.
ACTIVE_EXPERIMENT = PrivateName(
    "mlflow.tracking.fluent._active_experiment_id",
    "a second block starts in the experiment that the first one set",
)
# Restores autologging for the next task of dag.test(). mlflow.autolog(disable=True) also disables what was
# enabled before the block.
AUTOLOGGING = PrivateName(
    "mlflow.utils.autologging_utils.AUTOLOGGING_INTEGRATIONS",
    "autologging is disabled, but only after `autolog`",
)
# Shows what MLflow prints as information; Airflow shows all of stderr as errors.
LOGGING_STREAM = PrivateName(
    "mlflow.utils.logging_utils.MLFLOW_LOGGING_STREAM", "these messages are shown as errors"
)
# Lets S3 clients use the keys of this block; MLflow caches clients by endpoint.
S3_CLIENTS = PrivateName(
    "mlflow.store.artifact.s3_artifact_repo._cached_get_s3_client",
    "a second block in this process may use the keys of the first",
)
# Deletes the artifact that the doctor wrote; MLflow's client deletes none.
ARTIFACT_REPOSITORY = PrivateName(
    "mlflow.store.artifact.artifact_repository_registry.get_artifact_repository",
    "the artifact of the deleted run stays until `mlflow gc`",
)
# Modules to preload: mlflow imports the first when it is pointed at a server, the second with a request.
TRACING = PrivateName("mlflow.tracing.processor.base_mlflow", "each task imports it, which takes 35 ms")
REQUEST_HEADERS = PrivateName(
    "mlflow.tracking.request_header.registry", "each task imports it, which takes 5 ms"
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
    with ExitStack() as stack:
        with optional(name):
            previous = name.get()
            name.set(replacement(previous))
            stack.callback(name.set, previous)
        yield
