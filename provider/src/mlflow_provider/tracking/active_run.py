"""Make a run the active run of the ``mlflow`` package for the duration of a block.

Code written without Airflow starts its own runs. The first is the task's run; all others are its children.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_provider.process import mlflow_private
from mlflow_provider.process.environment import environment
from mlflow_provider.server.findings import clean
from mlflow_provider.tracking import runs, shared_run

if TYPE_CHECKING:
    from mlflow import ActiveRun
    from mlflow.entities import Experiment

    from mlflow_provider.tracking.shared_run import SharedRun

log = logging.getLogger(__name__)

# Arguments of mlflow.start_run() with which the task's run needs no other request than to set tags.
_DESCRIPTION = {"run_id", "experiment_id", "run_name", "nested", "tags", "description"}
# In the server's error; autologging logs it as a warning.
_REJECTED_PARAMETERS = "Changing param values is not allowed"


@contextmanager
def autologging(options: bool | Mapping[str, Any]) -> Iterator[None]:
    """Enable ``mlflow.autolog`` for the duration of a block; afterwards, what the block enabled is disabled.

    :param options: its arguments, e.g. ``{"log_models": False}``; True for the defaults, False for none.
    """
    import mlflow

    previous = None
    with mlflow_private.optional(mlflow_private.AUTOLOGGING):
        previous = copy.deepcopy(mlflow_private.AUTOLOGGING.get())
    if options is not False:
        mlflow.autolog(**({} if options is True else options))
    try:
        yield
    finally:
        if options is not False:
            mlflow.autolog(disable=True)  # also for what is imported later
        if previous is not None:
            with mlflow_private.optional(mlflow_private.AUTOLOGGING):
                integrations = mlflow_private.AUTOLOGGING.get()
                integrations.clear()
                integrations.update(previous)


@contextmanager
def active_run(
    run: runs.Run | None, tags: Mapping[str, str], *, log_system_metrics: bool = False
) -> Iterator[ActiveRun]:
    """Make a run the active run for the duration of a block, and its experiment the default for further runs.

    Other threads and forked processes also have it, and programs find it in their environment. At its end
    the block ends the runs that it started and left open, but not the run itself. Afterwards the previous
    runs are active again, but no model.

    :param run: the run; None for a new one in MLflow's default experiment.
    :param tags: tags of the further runs.
    :param log_system_metrics: whether to log the use of CPU, memory and network to the run.
    """
    import mlflow

    log_system_metrics = log_system_metrics or _system_metrics_are_enabled()
    # Only mlflow.start_run() starts the thread that logs system metrics, and end_run() stops it.
    active_at_first = [_as_active_run(run)] if run and not log_system_metrics else []
    with (
        _ignored_run_id(),
        mlflow_private.replaced(
            mlflow_private.ACTIVE_RUNS, lambda previous: type(previous)(active_at_first.copy)
        ),
    ):
        is_started_by_mlflow = mlflow.active_run() not in active_at_first
        if is_started_by_mlflow:
            run_id = run.run_id if run else None
            active_at_first[:] = [
                mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=log_system_metrics)
            ]
        [active] = active_at_first
        with shared_run.share(active.info.run_id, tags) as shared:
            task_run = _TaskRun(active, shared, mlflow.get_tracking_uri(), is_started_by_mlflow)
            experiment_id = active.info.experiment_id
            with (
                task_run.ended_with_block(),
                environment({**shared.variables, "MLFLOW_EXPERIMENT_ID": experiment_id}),
                # MLflow looks up an experiment that is only in the environment, for each run and trace.
                mlflow_private.replaced(mlflow_private.ACTIVE_EXPERIMENT, lambda _: experiment_id),
                _tagged_traces(tags),
                task_run.rejected_parameters_explained(),
                _replaced(task_run.start_run),
                _replaced(task_run.end_run),
                _replaced(task_run.set_experiment),
            ):
                yield active


def _system_metrics_are_enabled() -> bool:
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

    return bool(MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get())


def _as_active_run(run: runs.Run) -> ActiveRun:
    import mlflow
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities import RunData, RunInfo, RunTag

    info = RunInfo(
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        user_id=run.tags.get("mlflow.user", ""),
        status=run.status,
        start_time=run.start_time,
        end_time=run.end_time,
        lifecycle_stage="active",
        artifact_uri=run.artifact_uri,
        run_name=run.name,
    )
    data = RunData(tags=[RunTag(key, value) for key, value in run.tags.items()])
    return mlflow.ActiveRun(MlflowRun(info, data))


def _tagged_traces(tags: Mapping[str, str]) -> AbstractContextManager[None]:
    """Give the task's tags to the traces of a block, in this thread. Others name the run."""
    import mlflow

    if not hasattr(mlflow.tracing, "context"):  # MLflow before 3.11
        return nullcontext()
    return mlflow.tracing.context(
        tags={key: value for key, value in tags.items() if key.startswith("airflow.")}
    )


@contextmanager
def _ignored_run_id() -> Iterator[None]:
    """Ignore MLFLOW_RUN_ID, with which other processes find the run; all runs here would become that one."""
    from mlflow.environment_variables import MLFLOW_RUN_ID

    variable: Any = MLFLOW_RUN_ID
    previous = dict(vars(variable))
    variable.get = variable.unset = lambda: None
    try:
        yield
    finally:
        variable.__dict__ = previous


@contextmanager
def _no_active_run() -> Iterator[None]:
    """Hide the active runs of this thread; afterwards they are active again, below those of the block."""
    previous = None
    with mlflow_private.optional(mlflow_private.ACTIVE_RUNS):
        active_runs = mlflow_private.ACTIVE_RUNS.get()
        previous = active_runs.get()
        active_runs.set([])
    try:
        yield
    finally:
        if previous is not None:
            active_runs.set([*previous, *active_runs.get()])


@dataclass
class _TaskRun:
    """What ``mlflow.start_run``, ``end_run`` and ``set_experiment`` do inside the run of a task.

    :param active: the run.
    :param tracking_uri: its server.
    :param is_started_by_mlflow: whether MLflow also has to end it.
    """

    active: ActiveRun
    shared: SharedRun
    tracking_uri: str
    is_started_by_mlflow: bool
    warnings: set[str] = field(default_factory=set)

    def start_run(self, original: Callable[..., ActiveRun], arguments: dict[str, Any]) -> ActiveRun:
        """Return the task's run if no run has been started yet; otherwise start a child of it."""
        self._check_tracking_uri()
        run_id, tags = arguments.get("run_id"), arguments.get("tags") or {}
        if not run_id:
            self._check_experiment(arguments.pop("experiment_id", None), "start_run")
        if self._inner_run():
            return original(**arguments)  # nested in it, or rejected
        names_parent = arguments.get("parent_run_id") or runs.PARENT_RUN_ID in tags
        is_child = arguments.get("nested") or names_parent or not self.shared.is_this_process
        if run_id == self.shared.run_id or (not run_id and not is_child and self.shared.take()):
            return self._take(original, arguments)
        # MLflow would reject a run of another experiment.
        experiment_id = None if run_id else self.active.info.experiment_id
        with (
            _no_active_run(),
            mlflow_private.replaced(mlflow_private.ACTIVE_EXPERIMENT, lambda _: experiment_id),
        ):
            return original(**arguments)  # AirflowRunContext makes a new run a child

    def _take(self, original: Callable[..., ActiveRun], arguments: dict[str, Any]) -> ActiveRun:
        """Return the task's run, described by the arguments; MLflow itself handles those that are left."""
        import mlflow

        self.shared.take()
        description = {
            "mlflow.runName": arguments.get("run_name"),
            runs.DESCRIPTION: arguments.get("description"),
        }
        tags = {key: value for key, value in description.items() if value}
        if tags := {**(arguments.get("tags") or {}), **tags}:
            mlflow.set_tags(tags)
        others = {
            name: value for name, value in arguments.items() if value is not None and name not in _DESCRIPTION
        }
        logs_system_metrics = others.pop("log_system_metrics", _system_metrics_are_enabled())
        logs_system_metrics = logs_system_metrics and not self.is_started_by_mlflow
        if others or logs_system_metrics:
            self.is_started_by_mlflow = True
            others["log_system_metrics"] = logs_system_metrics
            return original(run_id=self.shared.run_id, nested=True, **others)
        return self.active

    def end_run(self, original: Callable[..., None], arguments: dict[str, Any]) -> None:
        """End the active run, but leave that to the task if it is the task's run."""
        if self._inner_run():
            original(**arguments)

    def set_experiment(self, original: Callable[..., Experiment], arguments: dict[str, Any]) -> Experiment:
        """Return the experiment of the task's run; another one would stay empty."""
        import mlflow

        experiment = mlflow.get_experiment(self.active.info.experiment_id)
        chosen = arguments.get("experiment_name") or arguments.get("experiment_id")
        if chosen in (experiment.name, experiment.experiment_id):
            return original(**arguments)
        self._check_experiment(chosen, "set_experiment", arguments.get("experiment_name"))
        return experiment

    @contextmanager
    def rejected_parameters_explained(self) -> Iterator[None]:
        """Warn of two fits under autolog in the task's run, when MLflow logs that it rejects the second's."""

        def explain(record: logging.LogRecord) -> None:
            # Not formatted: an error in somebody's message must not reach the task.
            message = f"{record.msg} {record.args}"
            if _REJECTED_PARAMETERS in message and self.shared.run_id in message:
                self._warn(
                    "This task's run has the parameters of another fit. Put each fit under autolog into a "
                    "`with mlflow.start_run():` of its own."
                )

        handler = logging.Handler()
        handler.emit = explain  # type: ignore[method-assign]
        logger = logging.getLogger("mlflow")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    @contextmanager
    def ended_with_block(self) -> Iterator[None]:
        """End the runs that were left open, send what was logged to them, and forget the active model."""
        import mlflow

        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        finally:
            self._check_tracking_uri()
            try:
                while self._inner_run():
                    mlflow.end_run(status)
                # MLflow flushes when Python exits, but Airflow ends the process of a task before that.
                mlflow.flush_async_logging()
                mlflow.flush_artifact_async_logging()  # of the active run
                if self.is_started_by_mlflow and self.shared.is_this_process:
                    mlflow.end_run(status)
            except mlflow.MlflowException as error:
                log.warning(
                    "Runs started in MLflow run %s may be left RUNNING: %s", self.shared.run_id, error
                )
            if mlflow.get_active_model_id():
                mlflow.clear_active_model()

    def _inner_run(self) -> ActiveRun | None:
        """Return the active run unless it is the task's."""
        import mlflow

        active = mlflow.active_run()
        return active if active and active.info.run_id != self.shared.run_id else None

    def _check_tracking_uri(self) -> None:
        import mlflow

        if (uri := mlflow.get_tracking_uri()) != self.tracking_uri:
            self._warn(
                f"mlflow.set_tracking_uri() has set {clean(uri)}, but this task's run is on "
                f"{self.tracking_uri}. Remove the call; the connection names the server."
            )

    def _check_experiment(self, chosen: str | int | None, function: str, name: str | None = None) -> None:
        if chosen is not None and str(chosen) != self.active.info.experiment_id:
            self._warn(
                f"mlflow.{function}() cannot change the experiment of this task's run and its children. Use "
                f"@task.mlflow(experiment={name or '<its name>'!r})."
            )

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.add(message)
            log.warning(message)


@contextmanager
def _replaced(method: Callable[[Callable[..., Any], dict[str, Any]], Any]) -> Iterator[None]:
    """Let a method stand in for the function of its name in ``mlflow`` for the duration of a block.

    It also replaces the function in the module that defines it, where MLflow itself calls it: ``log_metric``
    starts a run, and ``with mlflow.start_run():`` ends one. A module that has imported the function by name
    has that of ``mlflow`` again after the block.
    """
    import mlflow

    original = getattr(mlflow, method.__name__)
    signature = inspect.signature(original)

    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        if is_replaced:
            return method(original, dict(signature.bind(*args, **kwargs).arguments))
        return original(*args, **kwargs)

    is_replaced = True
    modules = [mlflow, sys.modules.get(original.__module__, mlflow)]
    for module in modules:
        setattr(module, method.__name__, function)
    try:
        yield
    finally:
        is_replaced = False
        for module in modules:
            setattr(module, method.__name__, original)
