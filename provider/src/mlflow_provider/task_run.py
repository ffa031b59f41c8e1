"""One MLflow run for one Airflow task instance, from its start to its true end.

The run carries the task instance's identity as tags, and by them it is found again: by a retry, which
continues it, and by whatever has to close it after its process was killed.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import get_current_context

from mlflow_provider import fluent, links, parent_run, runs
from mlflow_provider.compat import (
    PAUSES,
    AirflowSkipException,
    AirflowTaskTerminated,
    AirflowTaskTimeout,
    redact,
)
from mlflow_provider.connection import MLflowConnection
from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.termination import on_termination
from mlflow_provider.tracking import environment, tracking

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
REASON = "airflow.reason"  # why the run did not end well
MAX_REASON_LENGTH = 1000

# The first request: a server that is down, or accepts and never answers, is given up within a minute.
KNOCK_TIMEOUT_SECONDS = 6.0
# Every other one; with the waits between them, retries bridge half a minute without a server.
TIMEOUT_SECONDS = 30.0
RETRIES = 4
# Airflow kills a process five seconds after it told it to end.
LAST_WORDS_TIMEOUT_SECONDS = 2.0


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
    starts a new one, a deferred one takes its run up again. Afterwards, also after an error, tracking
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
    try:
        attempt.start(experiment, run_name, tags or {}, nested=nested)
    except MLflowProviderError as error:
        if on_tracking_error == "fail":
            raise
        log.warning("This task goes on without an MLflow run: %s", error)

    with ExitStack() as stack:
        stack.enter_context(attempt.hook.tracking() if attempt.run_id else _tracking_to_nowhere())
        stack.enter_context(fluent.set_aside())
        if autolog:
            stack.enter_context(fluent.autologging({} if autolog is True else autolog))
        if attempt.run_id:
            with _ended(attempt):
                yield fluent.activate(attempt.run_id, attempt.experiment_id)
        else:
            fluent.activate()  # a block may ask for the active run
            yield None


@contextmanager
def _tracking_to_nowhere() -> Iterator[None]:
    """Let the ``mlflow`` package write to a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
        nowhere = MLflowConnection("", f"file://{folder}/mlruns")
        with environment({"MLFLOW_ALLOW_FILE_STORE": "true"}), tracking(nowhere):
            yield


@contextmanager
def _ended(attempt: _Attempt) -> Iterator[None]:
    """End the run with the block, and as the block ends."""
    with on_termination(attempt.give_up) as was_terminated:
        try:
            yield
        except BaseException as error:
            # After a pause, the task goes on in another process, and its run with it.
            if not isinstance(error, PAUSES) and not was_terminated():
                attempt.end_with(error)
            raise
        if not was_terminated():
            attempt.end("FINISHED")


def close_task_run(context: Context, mlflow_conn_id: str = DEFAULT_CONN_ID) -> None:
    """End the run that a killed try of a task left RUNNING; a callback for failures and retries.

    Airflow calls those, in another process, also when it finds that a task's process is gone. They come
    with ``@task.mlflow``; beside :func:`task_run` they are ``on_failure_callback=close_task_run`` and
    ``on_retry_callback=close_task_run``.

    :param context: the context of the task instance.
    :param mlflow_conn_id: connection that the run was started with (templated).
    """
    ti = context["ti"]
    run_id = ti.xcom_pull(task_ids=ti.task_id, key=XCOM_RUN_ID, map_indexes=ti.map_index)
    if not isinstance(run_id, str):
        return  # there is no run yet
    conn_id = context["task"].render_template(mlflow_conn_id, context)
    try:
        _Attempt(context, conn_id, "warn").close(run_id)
    except MLflowProviderError as error:
        log.warning("MLflow run %s may be left RUNNING: %s", run_id, error)


class _Attempt:
    """A try of a task instance, and what MLflow has to know of it."""

    def __init__(self, context: Context, mlflow_conn_id: str, on_tracking_error: OnTrackingError) -> None:
        self.context = context
        self.ti: Any = context["ti"]
        self.on_tracking_error = on_tracking_error
        self.hook = MLflowClientHook(mlflow_conn_id=mlflow_conn_id)
        self.experiment_id = ""
        self.run_id = ""  # empty until the run has started
        self.parent_run_id = ""

    def start(
        self, experiment: str | None, run_name: str | None, tags: Mapping[str, Any], *, nested: bool
    ) -> None:
        """Continue the run of the try before, or create one."""
        hook = self._hurried(KNOCK_TIMEOUT_SECONDS)
        self.experiment_id = hook.get_or_create_experiment(experiment or self.ti.dag_id)
        hook = self._hurried(TIMEOUT_SECONDS)
        tags = {**_description(self.context), **tags, **_identity(self.ti), **_try(self.context)}
        if nested:
            self.parent_run_id = parent_run.elect(
                hook, self.experiment_id, self.ti.run_id, _identity_of_dag_run(self.ti)
            )
            tags[runs.PARENT_RUN_ID] = self.parent_run_id

        before = self._newest_run(hook)
        if before and _continues(before, tags):
            run_id = before["info"]["run_id"]
            if REASON in runs.tags_of(before):
                runs.delete_tag(hook, run_id, REASON)
            runs.set_tags(hook, run_id, tags)
        else:
            if before and before["info"]["status"] == "RUNNING":
                runs.update(hook, before["info"]["run_id"], "KILLED")
            run_id = runs.create(hook, self.experiment_id, run_name or _name(self.ti), tags)
        if nested:
            runs.update(hook, self.parent_run_id, "RUNNING")
        self.run_id = run_id
        self.ti.xcom_push(XCOM_RUN_ID, run_id)
        links.push_run(self.ti, hook.connection, self.experiment_id, run_id)

    def _newest_run(self, hook: MLflowClientHook) -> dict[str, Any] | None:
        criteria = runs.having(_identity(self.ti))
        newest_first = ["attributes.start_time DESC"]
        found = hook.search_runs([self.experiment_id], criteria, newest_first, max_results=1)
        return found[0] if found else None

    def end(self, status: Status) -> None:
        """End the active run."""
        try:
            with environment({"MLFLOW_HTTP_REQUEST_TIMEOUT": f"{TIMEOUT_SECONDS:.0f}"}):
                fluent.end(self.run_id, status)
            self._settle_parent(self._hurried(TIMEOUT_SECONDS))
        except MLflowProviderError as error:
            if self.on_tracking_error == "fail":
                raise
            log.warning("MLflow run %s may be left RUNNING: %s", self.run_id, error)

    def end_with(self, error: BaseException) -> None:
        """End the active run as an error demands it; the error stays the one to be seen."""
        self.on_tracking_error = "warn"
        if isinstance(error, AirflowSkipException):
            self.end("FINISHED")
            return
        try:
            self._explain(self._hurried(TIMEOUT_SECONDS), f"{type(error).__name__}: {error}")
        except MLflowProviderError as tracking_error:
            log.warning("MLflow run %s: its reason is not noted: %s", self.run_id, tracking_error)
        self.end("KILLED" if isinstance(error, INTERRUPTIONS) else "FAILED")

    def give_up(self) -> None:
        """End the run in the seconds that are left to a process that Airflow ends."""
        self._close(
            self._hurried(LAST_WORDS_TIMEOUT_SECONDS, retries=0), "ended by Airflow, or with its machine"
        )

    def close(self, run_id: str) -> None:
        """End a run that this try has left RUNNING."""
        hook = self._hurried(TIMEOUT_SECONDS)
        run = runs.get(hook, run_id)
        tags = runs.tags_of(run)
        # By now the next try may have continued it.
        if run["info"]["status"] == "RUNNING" and tags.get(TRY_NUMBER) == str(self.ti.try_number):
            self.run_id, self.experiment_id = run_id, run["info"]["experiment_id"]
            self.parent_run_id = tags.get(runs.PARENT_RUN_ID, "")
            self._close(hook, "its process was killed")

    def _close(self, hook: MLflowClientHook, reason: str) -> None:
        try:
            runs.update(hook, self.run_id, "KILLED")
            self._explain(hook, reason)
            self._settle_parent(hook)
        except MLflowProviderError as error:
            log.warning("MLflow run %s may be left RUNNING: %s", self.run_id, error)

    def _explain(self, hook: MLflowClientHook, reason: str) -> None:
        runs.set_tags(hook, self.run_id, {REASON: str(redact(reason))[:MAX_REASON_LENGTH]})

    def _settle_parent(self, hook: MLflowClientHook) -> None:
        if self.parent_run_id:
            parent_run.settle(hook, self.experiment_id, self.parent_run_id)

    def _hurried(self, timeout: float, retries: int = RETRIES) -> MLflowClientHook:
        """Return a hook that waits no longer than this for an answer."""
        hook = MLflowClientHook(mlflow_conn_id=self.hook.mlflow_conn_id)
        given = self.hook.connection
        hook.connection = replace(
            given, timeout=min(given.timeout, timeout), retries=min(given.retries, retries)
        )
        return hook


def _continues(run: dict[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell a retry, which continues a run, from a task that was cleared, which starts a new one.

    :param run: the newest run of the task instance.
    :param now: the tags of this try.
    """
    status, then = run["info"]["status"], runs.tags_of(run)
    # Clearing raises max_tries, but not that of a task that is running: it is ended, and tried again.
    if then[MAX_TRIES] != now[MAX_TRIES]:
        return False
    if status in ("RUNNING", "KILLED") and then[CLEAR_NUMBER] != now[CLEAR_NUMBER]:
        return False
    # The same try once more is a deferred task that goes on, if its run is still open; otherwise it belongs
    # to an earlier DAG run of the same ID, which was deleted.
    return status == "RUNNING" or int(then[TRY_NUMBER]) < int(now[TRY_NUMBER])


def _identity_of_dag_run(ti: Any) -> dict[str, str]:
    return {"airflow.dag_id": ti.dag_id, "airflow.run_id": ti.run_id}


def _identity(ti: Any) -> dict[str, str]:
    map_index = str(-1 if ti.map_index is None else ti.map_index)
    return {**_identity_of_dag_run(ti), "airflow.task_id": ti.task_id, "airflow.map_index": map_index}


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
