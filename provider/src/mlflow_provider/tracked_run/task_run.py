"""One MLflow run for one Airflow task instance, from its start to its end.

The run carries the task instance's identity as tags. By these a retry, which continues the run, finds it
again, and so does whatever has to end it after its process was killed.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import get_current_context

from mlflow_provider import links, mlflow_state
from mlflow_provider.connection import MLflowConnection
from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.tracked_run import parent_run, runs
from mlflow_provider.tracked_run.termination import on_termination
from mlflow_provider.version_compat import (
    DEFERRALS,
    AirflowSkipException,
    AirflowTaskTerminated,
    AirflowTaskTimeout,
)

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mlflow import ActiveRun

log = logging.getLogger(__name__)

OnTrackingError = Literal["fail", "warn"]
Status = Literal["FINISHED", "FAILED", "KILLED"]
INTERRUPTIONS = (AirflowTaskTimeout, AirflowTaskTerminated, KeyboardInterrupt)

DEFAULT_CONN_ID = MLflowClientHook.default_conn_name
XCOM_RUN_ID = "mlflow_run_id"

# Tags. A try is one of max_tries + 1, and of how often tasks of its DAG run were cleared.
TRY_NUMBER = "airflow.try_number"
MAX_TRIES = "airflow.max_tries"
CLEAR_NUMBER = "airflow.clear_number"

# Seconds. The first request: a server that is down or never answers is reported within a minute.
FIRST_REQUEST_TIMEOUT = 6.0
# Every later one. What has been computed by then is worth waiting two minutes for a server to come back.
TIMEOUT = 30.0
MORE_RETRIES = 2
# Airflow kills a process five seconds after it told it to end.
TERMINATION_TIMEOUT = 2.0


@contextmanager
def task_run(
    *,
    mlflow_conn_id: str = DEFAULT_CONN_ID,
    experiment: str | None = None,
    run_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    nested: bool = False,
    autolog: bool | Mapping[str, Any] = False,
    on_tracking_error: OnTrackingError = "fail",
    context: Context | None = None,
) -> Iterator[ActiveRun | None]:
    """Run a block of a task inside the MLflow run of its task instance.

    .. code-block:: python

        @task
        def train():
            with task_run(experiment="Housing", autolog=True):
                Ridge().fit(features, prices)

    Inside the block the ``mlflow`` package leads to the connection's server, and the run is the active
    one. It ends FINISHED; FAILED when the block raises; KILLED when the task times out, or when Airflow
    ends it, e.g. because it was cleared or marked. A retry continues the run, a task that was cleared
    starts a new one, a deferred task continues its run. Afterwards, also after an error, tracking
    environment, active run and autologging are as before.

    The run's ID is pushed as XCom ``mlflow_run_id`` when the run starts.

    :param mlflow_conn_id: connection of type ``mlflow``.
    :param experiment: name of the experiment, created where it is missing; the DAG ID by default.
    :param run_name: name of the run; by default the task ID, with the map index if there is one.
    :param tags: more tags for the run.
    :param nested: whether to put the run under a parent run, one for the DAG run and experiment.
    :param autolog: whether to switch ``mlflow.autolog`` on, or the arguments to do so with.
    :param on_tracking_error: what to do if MLflow does not let the run start, or end: ``fail`` the task,
        or ``warn`` in its log and go on. What a block logs without a run is thrown away.
    :param context: the task's context; the current one by default.
    :return: the active run; None if it could not start and ``on_tracking_error`` is ``warn``.
    :raises MLflowProviderError: the run cannot start, which is known within a minute, or cannot end.
    """
    if on_tracking_error not in ("fail", "warn"):
        raise ValueError(f"on_tracking_error is {on_tracking_error!r}; choose 'fail' or 'warn'.")
    attempt = _Attempt(context or get_current_context(), mlflow_conn_id, on_tracking_error)
    with _end_with_block(attempt):
        attempt.start(experiment, run_name, tags or {}, nested=nested)
        with (
            attempt.tracking(),
            mlflow_state.without_active_run(),
            mlflow_state.autologging(autolog),
            mlflow_state.active_run(attempt.run_id, attempt.experiment_id) as run,
        ):
            yield run if attempt.run_id else None


@contextmanager
def _tracking_to_temporary_folder() -> Iterator[None]:
    """Let the ``mlflow`` package write to a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
        connection = MLflowConnection("", f"file://{folder}/mlruns")
        allowed = {"MLFLOW_ALLOW_FILE_STORE": "true"}
        with mlflow_state.environment(allowed), mlflow_state.tracking(connection):
            yield


@contextmanager
def _end_with_block(attempt: _Attempt) -> Iterator[None]:
    """End the run when the block ends, with the status that the block's end calls for."""
    with on_termination(attempt.end_terminated) as was_terminated:
        try:
            yield
        except BaseException as error:
            # A deferred task goes on in another process, and its run with it.
            if not isinstance(error, DEFERRALS):
                attempt.end_with(error)
            raise
        else:
            attempt.end("FINISHED")
        finally:
            if was_terminated():
                attempt.end_terminated()  # again, as the block has gone on for a moment


class _Attempt:
    """A try of a task instance, and its MLflow run."""

    def __init__(self, context: Context, mlflow_conn_id: str, on_tracking_error: OnTrackingError) -> None:
        self.context = context
        self.ti: Any = context["ti"]
        self.on_tracking_error = on_tracking_error
        self.hook = MLflowClientHook(mlflow_conn_id=mlflow_conn_id)
        self.experiment_id = ""
        self.run_id = ""  # empty until the run has started
        self.parent_run_id = ""

    @cached_property
    def retrying_hook(self) -> MLflowClientHook:
        """A hook for a server that has answered before, and so is likely to answer again."""
        given = self.hook.connection
        retries = given.retries + MORE_RETRIES
        return self.hook.with_limits(timeout=min(given.timeout, TIMEOUT), retries=retries)

    def start(
        self, experiment: str | None, run_name: str | None, tags: Mapping[str, Any], *, nested: bool
    ) -> None:
        """Continue the run of the try before, or create one."""
        try:
            self._start(experiment, run_name, tags, nested=nested)
        except MLflowProviderError as error:
            if self.on_tracking_error == "fail":
                raise
            log.warning("This task runs without an MLflow run: %s", error)

    def _start(
        self, experiment: str | None, run_name: str | None, tags: Mapping[str, Any], *, nested: bool
    ) -> None:
        given = self.hook.connection
        first = self.hook.with_limits(min(given.timeout, FIRST_REQUEST_TIMEOUT), given.retries)
        self.experiment_id = first.get_or_create_experiment(experiment or self.ti.dag_id)
        hook = self.retrying_hook
        tags = {**_description(self.context), **tags, **_identity(self.ti), **_try(self.context)}
        if nested:
            dag_id, run_id = self.ti.dag_id, self.ti.run_id
            self.parent_run_id = parent_run.get_or_create(hook, self.experiment_id, dag_id, run_id)
            tags[runs.PARENT_RUN_ID] = self.parent_run_id

        before = self._newest_run(hook)
        if before and _continues(before, tags):
            self.run_id = before["info"]["run_id"]
            if runs.REASON in runs.tags_of(before):
                runs.delete_tag(hook, self.run_id, runs.REASON)
            runs.set_tags(hook, self.run_id, tags)
        else:
            if before and before["info"]["status"] == "RUNNING":
                runs.kill(hook, before["info"]["run_id"], "its process was killed")
            self.run_id = runs.create(hook, self.experiment_id, run_name or _name(self.ti), tags)
        if nested:
            runs.set_status(hook, self.parent_run_id, "RUNNING")
        self.ti.xcom_push(XCOM_RUN_ID, self.run_id)
        links.push_run_links(self.ti, given, self.experiment_id, self.run_id)

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Point the ``mlflow`` package at the server, or at a temporary folder if there is no run."""
        if not self.run_id:
            with _tracking_to_temporary_folder():
                yield
            return
        retries = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(self.retrying_hook.connection.retries)}
        with self.hook.tracking(), mlflow_state.environment(retries):
            yield

    def _newest_run(self, hook: MLflowClientHook) -> dict[str, Any] | None:
        filter_string = runs.with_tags(_identity(self.ti))
        newest_first = ["attributes.start_time DESC"]
        found = hook.search_runs([self.experiment_id], filter_string, newest_first, max_results=1)
        return found[0] if found else None

    def end(self, status: Status, reason: str | None = None) -> None:
        """End the run."""
        if not self.run_id:
            return
        try:
            if reason:
                runs.set_reason(self.retrying_hook, self.run_id, reason)
            runs.set_status(self.retrying_hook, self.run_id, status)
            self._end_parent(self.retrying_hook)
        except MLflowProviderError as error:
            if self.on_tracking_error == "fail":
                raise
            log.warning("MLflow run %s may be left RUNNING: %s", self.run_id, error)

    def end_with(self, error: BaseException) -> None:
        """End the run with the status that an error calls for; the task still fails with that error."""
        self.on_tracking_error = "warn"
        if isinstance(error, AirflowSkipException):
            self.end("FINISHED")
        else:
            status: Status = "KILLED" if isinstance(error, INTERRUPTIONS) else "FAILED"
            self.end(status, f"{type(error).__name__}: {error}")

    def end_terminated(self) -> None:
        """End the run in the few seconds before Airflow kills the process."""
        if not self.run_id:
            return
        hook = self.hook.with_limits(TERMINATION_TIMEOUT, retries=0)
        try:
            runs.kill(hook, self.run_id, "Airflow ended the task")
            self._end_parent(hook)
        except MLflowProviderError as error:
            log.warning("MLflow run %s may be left RUNNING: %s", self.run_id, error)

    def _end_parent(self, hook: MLflowClientHook) -> None:
        if self.parent_run_id:
            parent_run.end_if_children_ended(hook, self.experiment_id, self.parent_run_id)


def _continues(run: dict[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell a retry, which continues a run, from a task that was cleared, which starts a new one.

    :param run: the newest run of the task instance.
    :param now: the tags of this try.
    """
    status, then = run["info"]["status"], runs.tags_of(run)
    # Clearing raises max_tries, but not that of a task that is running: it is ended, and tried again.
    if then.get(MAX_TRIES) != now[MAX_TRIES]:
        return False
    if status in ("RUNNING", "KILLED") and then.get(CLEAR_NUMBER) != now[CLEAR_NUMBER]:
        return False
    # The same try once more is a deferred task that goes on, if its run is still open; otherwise it belongs
    # to an earlier DAG run of the same ID, which was deleted.
    return status == "RUNNING" or int(then.get(TRY_NUMBER, 0)) < int(now[TRY_NUMBER])


def _identity(ti: Any) -> dict[str, str]:
    map_index = str(-1 if ti.map_index is None else ti.map_index)
    of_task = {"airflow.task_id": ti.task_id, "airflow.map_index": map_index}
    return runs.tags_of_dag_run(ti.dag_id, ti.run_id) | of_task


def _try(context: Context) -> dict[str, str]:
    ti: Any = context["ti"]
    dag_run: Any = context["dag_run"]
    tags = {
        TRY_NUMBER: str(ti.try_number),
        MAX_TRIES: str(ti.max_tries),
        CLEAR_NUMBER: str(dag_run.clear_number or 0),
        "airflow.url": ti.log_url,
    }
    if dag_run.logical_date:  # a DAG run that was triggered has none
        tags["airflow.logical_date"] = dag_run.logical_date.isoformat()
    return tags


def _description(context: Context) -> dict[str, str]:
    """Return what MLflow's pages show of a run; MLflow's client would describe Airflow's own process."""
    ti: Any = context["ti"]
    return {
        "mlflow.user": context["task"].owner,
        "mlflow.source.type": "JOB",
        "mlflow.source.name": f"{ti.dag_id}.{ti.task_id}",
        "mlflow.note.content": f"[Task instance in Airflow]({ti.log_url})",
    }


def _name(ti: Any) -> str:
    return ti.task_id if ti.map_index in (None, -1) else f"{ti.task_id}[{ti.map_index}]"
