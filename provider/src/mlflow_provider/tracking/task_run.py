"""One MLflow run for each try of a task instance, from its start to its end.

A tag of the run identifies the task instance. Later tries use it to find the run, and so does the callback
that ends the run after its process was killed.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    DagRunTriggerException,
    DownstreamTasksSkipped,
)
from airflow.sdk import TaskInstanceState, get_current_context

from mlflow_provider import version_compat
from mlflow_provider.exceptions import MLflowProviderError, check_choice
from mlflow_provider.hooks.client import MLflowClientHook, as_tag_list
from mlflow_provider.links import mlflow as links
from mlflow_provider.process.environment import environment
from mlflow_provider.process.tracking import tracking
from mlflow_provider.server import limits, local_tracking
from mlflow_provider.server.connection import MLflowConnection, is_enabled
from mlflow_provider.server.findings import clean
from mlflow_provider.server.replica import until_visible
from mlflow_provider.tracking import parent_run, runs, task_instance
from mlflow_provider.tracking.active_run import active_run, autologging
from mlflow_provider.tracking.retry_policy import Retry, decide
from mlflow_provider.tracking.termination import on_termination
from mlflow_provider.version_compat import DEFERRALS, AirflowTaskTerminated

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mlflow import ActiveRun

    from mlflow_provider.server.limits import Limits

log = logging.getLogger(__name__)

OnTrackingError = Literal["fail", "warn"]
Status = Literal["FINISHED", "FAILED", "KILLED"]
INTERRUPTIONS = (AirflowTaskTimeout, AirflowTaskTerminated, KeyboardInterrupt)
NEVER_RETRIED = (AirflowFailException, AirflowSensorTimeout, AirflowTaskTerminated)
TERMINATED = AirflowTaskTerminated("Airflow ended the task")
# With these, operators pass a request to Airflow. If that fails, correct_end() is called.
SUCCESSES = (AirflowSkipException, DagRunTriggerException, DownstreamTasksSkipped)

DEFAULT_CONN_ID = MLflowClientHook.default_conn_name
XCOM_RUN_ID = "mlflow_run_id"


@contextmanager
def task_run(
    *,
    mlflow_conn_id: str = DEFAULT_CONN_ID,
    experiment: str | None = None,
    run_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    nested: bool = False,
    autolog: bool | Mapping[str, Any] = False,
    log_system_metrics: bool = False,
    retry: Retry = "new",
    on_tracking_error: OnTrackingError = "fail",
    context: Context | None = None,
) -> Iterator[ActiveRun | None]:
    """Run a block of a task inside the MLflow run of its task instance.

    .. code-block:: python

        @task
        def train():
            with task_run(experiment="Housing", autolog=True):
                Ridge().fit(features, prices)

    Inside the block the ``mlflow`` package uses the connection's server, and the run is the active
    one, also for code that calls ``mlflow.start_run()`` itself, and for processes that the block starts.
    It ends FINISHED; FAILED when the block raises; KILLED when the task times out, or when Airflow
    ends it, e.g. because it was cleared or marked. A retried or cleared task starts a new run; a task that
    was deferred or rescheduled continues its run. At the end, also after an error, tracking environment,
    active run and autologging are restored.

    The run's ID is pushed as XCom ``mlflow_run_id`` when the run starts.

    :param mlflow_conn_id: connection of type ``mlflow``.
    :param experiment: name of the experiment, created if it is missing; the DAG ID by default.
    :param run_name: name of the run; by default the task ID, with the map index if there is one.
    :param tags: more tags for the run.
    :param nested: whether to put the run under a parent run, one for the DAG run and experiment.
    :param autolog: whether to enable ``mlflow.autolog``, or its arguments.
    :param log_system_metrics: whether to log the use of CPU, memory and network; needs ``psutil``.
    :param retry: what the next try of a failed task does: start a ``new`` run, with the ID of the previous
        one in the tag ``airflow.retry_of``, or ``continue`` the same one. The latter is for training
        that resumes from a checkpoint: MLflow rejects a parameter whose value has changed.
    :param on_tracking_error: what to do if MLflow does not let the run start or end: ``fail`` the task,
        or ``warn`` in its log and continue. What a block logs without a run is discarded.
    :param context: the task's context; the current one by default.
    :return: the active run; None if it could not start and ``on_tracking_error`` is ``warn``.
    :raises MLflowProviderError: the run cannot start, which takes at most a minute, or cannot end.
    """
    check_choice("on_tracking_error", on_tracking_error, OnTrackingError)
    check_choice("retry", retry, Retry)
    user_tags = {tag["key"]: tag["value"] for tag in as_tag_list(tags) or []}
    if not is_enabled():
        on_tracking_error = "warn"
    tracked_try = _TrackedTry(
        context or get_current_context(), mlflow_conn_id, nested, retry, on_tracking_error
    )
    with _end_with_block(tracked_try):
        tracked_try.start(experiment, run_name, user_tags)
        _TrackedTry.latest = tracked_try
        with (
            tracked_try.tracking(),
            autologging(autolog),
            active_run(
                tracked_try.run,
                {**tracked_try.description, **tracked_try.tags},
                log_system_metrics=log_system_metrics,
            ) as run,
        ):
            yield run if tracked_try.run else None


def correct_end(ti: Any, error: BaseException | str | None) -> None:
    """Let the run of a failed task say so, if its block has ended otherwise.

    A task may fail after its function has returned, e.g. because its result does not fit into an XCom, and
    only Airflow knows whether it will retry it.

    :param ti: the task instance, in the state that Airflow has given it.
    :param error: why it failed, if Airflow says so.
    """
    if not isinstance(error, BaseException):
        error = AirflowException(error or "Airflow failed the task after its function had returned")
    is_retried = ti.state == TaskInstanceState.UP_FOR_RETRY
    tracked_try = _TrackedTry.latest
    if tracked_try and tracked_try.ti.id == ti.id and tracked_try.ended != (_status(error), is_retried):
        tracked_try.end(error, is_retried=is_retried, limit=limits.AFTER_TASK)


@contextmanager
def _end_with_block(tracked_try: _TrackedTry) -> Iterator[None]:
    """End the run when the block ends, with the matching status."""
    with on_termination(partial(tracked_try.end, TERMINATED, limit=limits.TERMINATION)) as was_terminated:
        try:
            yield
        except DEFERRALS:
            raise  # the task continues in another process, and its run with it
        except BaseException as error:
            tracked_try.end(error)
            raise
        else:
            tracked_try.end()
        finally:
            is_terminated = was_terminated()
            if is_terminated is None:
                is_terminated = tracked_try.is_ended_by_airflow()
            if is_terminated:  # the block has continued for a moment, and nothing corrects this
                tracked_try.end(TERMINATED, limit=limits.TERMINATION)
                _TrackedTry.latest = None


@dataclass
class _TrackedTry:
    """A try of a task instance, and its MLflow run.

    :param run: None until it has started.
    :param parent: its parent run, as it was when the try started; None if the try did not look for it.
    :param ended: the status with which it ended, and whether a retry follows.
    """

    # Of the newest block of this process. A later block of the same try continues its run, and Airflow may
    # still fail the task after both.
    latest: ClassVar[_TrackedTry | None] = None

    context: Context
    mlflow_conn_id: str
    nested: bool
    retry: Retry
    on_tracking_error: OnTrackingError
    run: runs.Run | None = None
    parent: runs.Run | None = None
    ended: tuple[Status, bool] | None = None

    def __post_init__(self) -> None:
        self.ti: Any = self.context["ti"]
        self.tags = task_instance.tags(self.context)
        self.description = task_instance.description(self.context)
        self.identity = task_instance.identity(self.context)
        self.hook = MLflowClientHook(mlflow_conn_id=self.mlflow_conn_id)
        self.process = os.getpid()

    @cached_property
    def patient_hook(self) -> MLflowClientHook:
        """A hook with longer limits, for a server that has already responded."""
        return self.hook.with_limits(limits.later_requests(self.hook.connection))

    def start(self, experiment: str | None, run_name: str | None, tags: Mapping[str, Any]) -> None:
        """Continue a run of the task instance, or create one."""
        try:
            first_hook = self.hook.with_limits(limits.first_request(self.hook.connection))
            experiment_id = first_hook.get_or_create_experiment(experiment or self.ti.dag_id)
            self.run = self._continue_or_create(experiment_id, run_name, tags)
            # A task that may not create its run leaves the parent as it was.
            if self.parent and self.parent.status != "RUNNING":
                runs.set_status(self.patient_hook, self.parent.run_id, "RUNNING")
            connection = self.hook.connection
            self.ti.xcom_push(XCOM_RUN_ID, self.run.run_id)
            links.push_run_links(self.ti, connection, self.run.experiment_id, self.run.run_id)
            log.info("MLflow run %s: %s", clean(self.run.name), connection.page(self.run.page))
        except Exception as error:
            if self.on_tracking_error == "fail":
                raise
            missing = "a link to its MLflow run" if self.run else "an MLflow run"
            log.warning("This task runs without %s: %s", missing, error)

    def _continue_or_create(
        self, experiment_id: str, run_name: str | None, tags: Mapping[str, Any]
    ) -> runs.Run:
        """Return the run of this try, RUNNING; of a nested one, also find or create the parent."""
        hook = self.patient_hook
        previous = self._newest_run(experiment_id)
        decision = decide(previous, self.tags, self.retry)
        if previous and decision == "same" and previous.status == "RUNNING":
            return previous

        try_tags = {**self.tags, runs.SUPERSEDED: "false"}
        if self.nested:
            ti, dag_run_tags = self.ti, runs.dag_run_tags(self.ti.dag_id, self.ti.run_id)
            # Counted before the search: a task that ends between the two has left its parent run in MLflow.
            running = ti.get_ti_count(dag_id=ti.dag_id, run_ids=[ti.run_id], states=["running"])
            self.parent = parent_run.get_or_create(
                hook, experiment_id, dag_run_tags, others_running=running > 1
            )
            try_tags[runs.PARENT_RUN_ID] = self.parent.run_id

        if previous and decision in ("same", "continue"):
            runs.set_status(hook, previous.run_id, "RUNNING")
            unexplained = runs.without_reason(previous)
            runs.set_tags(hook, previous.run_id, {**tags, **try_tags, **unexplained})
            return replace(previous, status="RUNNING", tags={**previous.tags, **try_tags})

        if previous:
            _supersede(hook, previous)
            if decision == "retry":
                try_tags[runs.RETRY_OF] = previous.run_id
        all_tags = {**self.description, **tags, **try_tags}
        name = run_name or task_instance.run_name(self.context)
        return runs.create(hook, experiment_id, name, self.identity, all_tags)

    def _newest_run(self, experiment_id: str) -> runs.Run | None:
        """Return the newest run of the task instance; None if this is its first try, and has no run yet."""
        latest = _TrackedTry.latest
        if latest and latest.run and latest.run.experiment_id == experiment_id and latest.tags == self.tags:
            return replace(latest.run, status=latest.ended[0] if latest.ended else "RUNNING")
        was_started_before = version_compat.was_started_before(self.ti)
        if was_started_before is False:
            return None
        hook, last_try = self.patient_hook, self.ti.try_number - 1

        def search(oldest_try: int = 0) -> runs.Run | None:
            # The IDs that Airflow gives to tries ascend (UUID 7), whatever the clocks of the workers say.
            newest_first = [f"tags.`{runs.TRY_ID}` DESC", "attributes.start_time DESC"]
            tag_filter = runs.tag_filter(self.identity)
            newest = runs.search(hook, [experiment_id], tag_filter, newest_first, max_results=1)
            return next((run for run in newest if int(run.tags.get(runs.TRY_NUMBER, 0)) >= oldest_try), None)

        # In its first try, the task was deferred or rescheduled.
        must_exist = was_started_before and (self.retry == "continue" or not last_try)
        newest = (must_exist and until_visible("this task's run", lambda: search(last_try))) or search()
        if newest and newest.tags.get(runs.TRY_ID) != self.tags[runs.TRY_ID]:
            return replace(newest, status=runs.status(hook, newest))
        return newest

    def is_ended_by_airflow(self) -> bool:
        """Return whether Airflow has given up the task instance, e.g. because it was cleared."""
        if not self.run or os.getpid() != self.process:  # a forked child also leaves the block
            return False
        ti = self.ti
        only = {"dag_id": ti.dag_id, "run_ids": [ti.run_id], "task_ids": [ti.task_id]}
        try:
            return not ti.get_ti_count(**only, map_index=ti.map_index, states=["running"])
        except Exception as error:  # noqa: BLE001  # the task has done its work
            log.warning("Airflow does not respond, so the run ends as its block did: %s", error)
            return False

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Point the ``mlflow`` package at the server, or at a temporary folder if there is no run."""
        if self.run:
            with self.hook.tracking(), environment(self.patient_hook.connection.retry_environment):
                yield
            return
        with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
            server = MLflowConnection("", f"file://{folder}/mlruns")
            with environment({"MLFLOW_ALLOW_FILE_STORE": "true"}), tracking(server), local_tracking.allowed():
                yield

    def end(
        self,
        error: BaseException | None = None,
        *,
        is_retried: bool | None = None,
        limit: Limits | None = None,
    ) -> None:
        """End the run.

        :param error: why the task fails; None if it succeeds.
        :param is_retried: whether Airflow will retry the task, if it has decided that. The retry then counts
            for the parent run.
        :param limit: the limits of each request, if they are tight.
        """
        if not self.run or os.getpid() != self.process:
            return
        status = _status(error)
        if is_retried is None:
            has_tries = self.ti.try_number <= self.ti.max_tries
            is_retried = status != "FINISHED" and has_tries and not isinstance(error, NEVER_RETRIED)
        default = limits.end_of_run if status == "FINISHED" else limits.later_requests
        hook = self.hook.with_limits(
            limit or default(self.hook.connection), own_pool=limit is limits.TERMINATION
        )
        try:
            if status == "FINISHED":
                runs.set_status(hook, self.run.run_id, status)
            else:
                superseded = {runs.SUPERSEDED: str(is_retried).lower()}
                runs.end(hook, self.run.run_id, status, self._reason(error), superseded)
            if self.nested and not is_retried:
                parent_run.end_with_child(hook, self.run, status)
            if self.run.may_have_duplicates:
                runs.delete_duplicates(hook, self.run, self.identity)
            self.ended = status, is_retried
            if status != "FINISHED" and not limit:
                with suppress(MLflowProviderError):  # the run has ended
                    runs.show_reason(self.hook.with_limits(limits.AFTER_TASK), self.run.run_id)
        except MLflowProviderError as failure:
            if self.on_tracking_error == "fail" and not error:
                raise
            log.warning("MLflow run %s may be left RUNNING: %s", self.run.run_id, failure)

    def _reason(self, error: BaseException | None) -> str:
        limit = self.context["task"].execution_timeout
        if isinstance(error, AirflowTaskTimeout) and limit:  # its own text is a process ID
            return f"Timed out after {limit} (execution_timeout)"
        return f"{type(error).__name__}: {error}"


def _status(error: BaseException | None) -> Status:
    if error is None or isinstance(error, SUCCESSES):
        return "FINISHED"
    return "KILLED" if isinstance(error, INTERRUPTIONS) else "FAILED"


def _supersede(hook: MLflowClientHook, run: runs.Run) -> None:
    """Mark a run as replaced by another run of its task instance; end it if its process was killed."""
    superseded = {runs.SUPERSEDED: "true"}
    if run.status == "RUNNING":
        runs.end(hook, run.run_id, "KILLED", "its process was killed", superseded)
    elif run.tags.get(runs.SUPERSEDED) != "true":
        runs.set_tags(hook, run.run_id, superseded)
