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
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_provider.process import mlflow_private
from mlflow_provider.process.environment import environment
from mlflow_provider.tracking import runs, shared_run

if TYPE_CHECKING:
    from mlflow import ActiveRun
    from mlflow.entities import Experiment

    from mlflow_provider.tracking.run import Run
    from mlflow_provider.tracking.shared_run import SharedRun

log = logging.getLogger(__name__)

# Arguments of mlflow.start_run() that need no other request than those of _describe().
_DESCRIPTION = {"run_id", "experiment_id", "run_name", "nested", "tags", "description", "log_system_metrics"}


@contextmanager
def no_active_run() -> Iterator[None]:
    """Run a block without an active run; afterwards the previous runs are active again, but no model."""
    import mlflow

    previous = None
    with mlflow_private.optional(mlflow_private.ACTIVE_RUNS):
        previous = mlflow_private.ACTIVE_RUNS.get().get()
        mlflow_private.ACTIVE_RUNS.get().set([])
    try:
        # MLFLOW_RUN_ID would turn a run that the block starts into that one.
        with environment({shared_run.RUN_ID: None}):
            yield
    finally:
        if previous is not None:
            with mlflow_private.optional(mlflow_private.ACTIVE_RUNS):
                mlflow_private.ACTIVE_RUNS.get().set(previous)
        if mlflow.get_active_model_id():
            mlflow.clear_active_model()


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
    run: Run | None, tags: Mapping[str, str], *, log_system_metrics: bool = False
) -> Iterator[ActiveRun]:
    """Make a run the active run for the duration of a block, and its experiment the default for further runs.

    Processes that the block starts find the run in their environment. At its end the block ends the runs
    that it started and left open, but not the run itself.

    :param run: the run; None for a new one in MLflow's default experiment.
    :param tags: tags of the further runs.
    :param log_system_metrics: whether to log the use of CPU, memory and network to the run.
    """
    import mlflow

    log_system_metrics = log_system_metrics or _system_metrics_are_enabled()
    active = _activate(_as_active_run(run)) if run and not log_system_metrics else None
    is_started_by_mlflow = not active
    if not active:
        # It also starts the thread that logs system metrics; end_run() stops that.
        run_id = run.run_id if run else None
        active = mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=log_system_metrics)
    end_run, status = mlflow.end_run, "FAILED"
    with shared_run.share(active.info.run_id, tags) as shared:
        task_run = _TaskRun(active, shared, is_started_by_mlflow, log_system_metrics)
        try:
            with (
                environment({**shared.variables, "MLFLOW_EXPERIMENT_ID": active.info.experiment_id}),
                _ignored_run_id(),
                mlflow_private.replaced(mlflow_private.ACTIVE_EXPERIMENT, active.info.experiment_id),
                _active_in_threads(active),
                _replaced(task_run.start_run),
                _replaced(task_run.end_run),
                _replaced(task_run.set_experiment),
            ):
                try:
                    yield active
                    status = "FINISHED"
                finally:
                    _end_inner_runs(active, status)
        finally:
            task_run.is_open = False
            if task_run.is_started_by_mlflow and shared.is_this_process and mlflow.active_run():
                end_run(status)


def _system_metrics_are_enabled() -> bool:
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

    return bool(MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get())


def _as_active_run(run: Run) -> ActiveRun:
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


def _activate(run: ActiveRun) -> ActiveRun | None:
    """Make a run the active run of this thread without a request; return None if this MLflow cannot."""
    with mlflow_private.optional(mlflow_private.ACTIVE_RUNS):
        mlflow_private.ACTIVE_RUNS.get().get().append(run)
        return run
    return None


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
def _active_in_threads(run: ActiveRun) -> Iterator[None]:
    """Make a run the active run of the threads and forked processes that a block starts."""
    previous = None
    with mlflow_private.optional(mlflow_private.ACTIVE_RUNS):
        active_runs = mlflow_private.ACTIVE_RUNS.get()
        previous, active_runs.default_factory = active_runs.default_factory, lambda: [run]
    try:
        yield
    finally:
        if previous:
            active_runs.default_factory = previous


@contextmanager
def _no_runs_of_this_thread() -> Iterator[None]:
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


class _TaskRun:
    """What ``mlflow.start_run``, ``end_run`` and ``set_experiment`` do inside the run of a task.

    After its end, they do what they do in ``mlflow``, for modules that have imported them by name.
    """

    def __init__(
        self, active: ActiveRun, shared: SharedRun, is_started_by_mlflow: bool, logs_system_metrics: bool
    ) -> None:
        import mlflow

        self.active = active
        self.run_id = active.info.run_id
        self.shared = shared
        self.is_started_by_mlflow = is_started_by_mlflow
        self.logs_system_metrics = logs_system_metrics
        self.is_open = True
        self._tracking_uri = mlflow.get_tracking_uri()
        self._warnings: set[str] = set()

    def start_run(self, original: Callable[..., ActiveRun], arguments: dict[str, Any]) -> ActiveRun:
        """Return the task's run if no run has been started yet; otherwise start a child of it."""
        import mlflow

        if not self.is_open:
            return original(**arguments)
        self._check_tracking_uri()
        current = mlflow.active_run()
        is_inside_another = bool(current and current.info.run_id != self.run_id)
        if not is_inside_another and self._may_take(arguments):
            return self._take(original, arguments)
        if is_inside_another and not arguments.get("nested"):
            return original(**arguments)  # MLflow rejects it, as without Airflow
        if arguments.get("run_id"):
            # MLflow would reject a run of another experiment.
            with mlflow_private.replaced(mlflow_private.ACTIVE_EXPERIMENT, None), _no_runs_of_this_thread():
                return original(**arguments)
        self._check_experiment(arguments.pop("experiment_id", None), "start_run")
        parent = {runs.PARENT_RUN_ID: current.info.run_id if current else self.run_id}
        with _no_runs_of_this_thread():
            return original(**{**arguments, "tags": {**parent, **(arguments.get("tags") or {})}})

    def end_run(self, original: Callable[..., None], arguments: dict[str, Any]) -> None:
        """End the active run, but leave that to the task if it is the task's run."""
        import mlflow

        current = mlflow.active_run()
        if not self.is_open or not current or current.info.run_id != self.run_id:
            original(**arguments)
            return
        with mlflow_private.optional(mlflow_private.ACTIVE_RUNS):
            active_runs = mlflow_private.ACTIVE_RUNS.get().get()
            if len(active_runs) > 1:  # logging outside of any start_run() goes to the task's run
                active_runs.pop()

    def set_experiment(self, original: Callable[..., Experiment], arguments: dict[str, Any]) -> Experiment:
        """Return the experiment of the task's run; another one would stay empty."""
        import mlflow

        if not self.is_open:
            return original(**arguments)
        experiment = mlflow.get_experiment(self.active.info.experiment_id)
        chosen = arguments.get("experiment_name") or arguments.get("experiment_id")
        if chosen in (experiment.name, experiment.experiment_id):
            return original(**arguments)
        self._check_experiment(chosen, "set_experiment", arguments.get("experiment_name"))
        return experiment

    def _may_take(self, arguments: Mapping[str, Any]) -> bool:
        if run_id := arguments.get("run_id"):
            return run_id == self.run_id
        names_parent = arguments.get("parent_run_id") or runs.PARENT_RUN_ID in (arguments.get("tags") or {})
        is_child = arguments.get("nested") or names_parent or not self.shared.is_this_process
        return not is_child and self.shared.take()

    def _take(self, original: Callable[..., ActiveRun], arguments: dict[str, Any]) -> ActiveRun:
        import mlflow

        self.shared.take()
        self._check_experiment(arguments.pop("experiment_id", None), "start_run")
        wants_system_metrics = arguments.get("log_system_metrics")
        if wants_system_metrics is None:
            wants_system_metrics = _system_metrics_are_enabled()
        others = {name for name, value in arguments.items() if value is not None} - _DESCRIPTION
        if others or (wants_system_metrics and not self.logs_system_metrics):
            self.is_started_by_mlflow = True
            self.logs_system_metrics = wants_system_metrics
            return original(**{**arguments, "run_id": self.run_id, "nested": True})
        _describe(self.run_id, arguments)
        return _activate(mlflow.ActiveRun(self.active)) or mlflow.ActiveRun(self.active)

    def _check_experiment(self, chosen: str | int | None, function: str, name: str | None = None) -> None:
        if chosen is not None and str(chosen) != self.active.info.experiment_id:
            self._warn(
                f"mlflow.{function}() cannot change the experiment of this task's run and its children. Use "
                f"@task.mlflow(experiment={name or '<its name>'!r})."
            )

    def _check_tracking_uri(self) -> None:
        import mlflow

        if (uri := mlflow.get_tracking_uri()) != self._tracking_uri:
            self._warn(
                f"mlflow.set_tracking_uri() has set {uri}, but this task's run is on {self._tracking_uri}. "
                "Remove the call; the connection names the server."
            )

    def _warn(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.add(message)
            log.warning(message)


@contextmanager
def _replaced(method: Callable[[Callable[..., Any], dict[str, Any]], Any]) -> Iterator[None]:
    """Let a method stand in for the function of its name in ``mlflow`` for the duration of a block.

    It also replaces the function in the module that defines it, where MLflow itself calls it: ``log_metric``
    starts a run, and ``with mlflow.start_run():`` ends one.
    """
    import mlflow

    original = getattr(mlflow, method.__name__)
    signature = inspect.signature(original)

    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        return method(original, dict(signature.bind(*args, **kwargs).arguments))

    modules = [mlflow, sys.modules.get(original.__module__, mlflow)]
    for module in modules:
        setattr(module, method.__name__, function)
    try:
        yield
    finally:
        for module in modules:
            setattr(module, method.__name__, original)


def _describe(run_id: str, arguments: Mapping[str, Any]) -> None:
    """Give a run the name, the tags and the description that ``mlflow.start_run`` was called with.

    .. seealso:: https://mlflow.org/docs/latest/ml/tracking/tracking-api/#system-tags
    """
    import mlflow

    system_tags = {
        "mlflow.runName": arguments.get("run_name"),
        "mlflow.note.content": arguments.get("description"),
    }
    tags = {
        **(arguments.get("tags") or {}),
        **{key: value for key, value in system_tags.items() if value},
    }
    for key, value in tags.items():
        mlflow.MlflowClient().set_tag(run_id, key, value)


def _end_inner_runs(run: ActiveRun, status: str) -> None:
    import mlflow

    try:
        while (inner := mlflow.active_run()) and inner.info.run_id != run.info.run_id:
            mlflow.end_run(status)
        # MLflow flushes when Python exits, but Airflow ends the process of a task before that.
        mlflow.flush_async_logging()
        mlflow.flush_artifact_async_logging()
    except mlflow.MlflowException as error:
        log.warning(
            "Runs that were started inside MLflow run %s may be left RUNNING: %s", run.info.run_id, error
        )
