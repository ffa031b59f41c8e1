"""One MLflow run for one Airflow task instance, from its start to its end.

The run carries the task instance's identity as a tag. By this a later try finds it again, and so does
whatever has to end it after its process was killed.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from airflow.sdk import get_current_context

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.links import mlflow as links
from mlflow_provider.process import mlflow_state
from mlflow_provider.server import limits
from mlflow_provider.server.artifact_errors import cause_of
from mlflow_provider.server.connection import MLflowConnection
from mlflow_provider.tracking import deployment, parent_run, runs
from mlflow_provider.tracking.termination import on_termination
from mlflow_provider.version_compat import (
    DEFERRALS,
    AirflowTaskTerminated,
    is_first_start,
)

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mlflow import ActiveRun

log = logging.getLogger(__name__)

OnTrackingError = Literal["fail", "warn"]
Retry = Literal["new", "continue"]
Status = Literal["FINISHED", "FAILED", "KILLED"]
INTERRUPTIONS = (AirflowTaskTimeout, AirflowTaskTerminated, KeyboardInterrupt)
NEVER_RETRIED = (AirflowFailException, AirflowSensorTimeout)

DEFAULT_CONN_ID = MLflowClientHook.default_conn_name
XCOM_RUN_ID = "mlflow_run_id"

# Tags
TASK_INSTANCE = "airflow.task_instance"  # its whole identity, over all tries
RETRY_OF = "airflow.retry_of"  # ID of the run of the try before
# A try has an ID of its own in Airflow, and is one of max_tries + 1.
TRY_ID = "airflow.try_id"
TRY_NUMBER = "airflow.try_number"
MAX_TRIES = "airflow.max_tries"


@contextmanager
def task_run(
    *,
    mlflow_conn_id: str = DEFAULT_CONN_ID,
    experiment: str | None = None,
    run_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    nested: bool = False,
    autolog: bool | Mapping[str, Any] = False,
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

    Inside the block the ``mlflow`` package leads to the connection's server, and the run is the active
    one, also for code that calls ``mlflow.start_run()`` itself, and for processes that the block starts.
    It ends FINISHED; FAILED when the block raises; KILLED when the task times out, or when Airflow
    ends it, e.g. because it was cleared or marked. A task that is tried again or was cleared starts a new
    run, a task that was deferred or rescheduled goes on in its own. Afterwards, also after an error,
    tracking environment, active run and autologging are as before.

    The run's ID is pushed as XCom ``mlflow_run_id`` when the run starts.

    :param mlflow_conn_id: connection of type ``mlflow``.
    :param experiment: name of the experiment, created where it is missing; the DAG ID by default.
    :param run_name: name of the run; by default the task ID, with the map index if there is one.
    :param tags: more tags for the run.
    :param nested: whether to put the run under a parent run, one for the DAG run and experiment.
    :param autolog: whether to switch ``mlflow.autolog`` on, or the arguments to do so with.
    :param retry: what the next try of a failed task does: start a ``new`` run, with the ID of the one before
        in the tag ``airflow.retry_of``, or ``continue`` in the same one. The latter is for training
        that resumes from a checkpoint: MLflow refuses a parameter that has another value than before.
    :param on_tracking_error: what to do if MLflow does not let the run start, or end: ``fail`` the task,
        or ``warn`` in its log and go on. What a block logs without a run is thrown away.
    :param context: the task's context; the current one by default.
    :return: the active run; None if it could not start and ``on_tracking_error`` is ``warn``.
    :raises MLflowProviderError: the run cannot start, which is known within a minute, or cannot end.
    """
    _check_choice("on_tracking_error", on_tracking_error, OnTrackingError)
    _check_choice("retry", retry, Retry)
    if tags is not None and not isinstance(tags, Mapping):
        raise ValueError(f"tags is {str(tags)[:100]!r}; give names and values, as in {{'data': 'housing'}}.")
    attempt = _Attempt(context or get_current_context(), mlflow_conn_id, retry, on_tracking_error)
    with _end_with_block(attempt):
        attempt.start(experiment, run_name, tags or {}, nested=nested)
        with (
            attempt.tracking(),
            mlflow_state.without_active_run(),
            mlflow_state.autologging(autolog),
            mlflow_state.active_run(attempt.run) as run,
        ):
            yield run if attempt.run else None


def _check_choice(parameter: str, given: str, choices: Any) -> None:
    if given not in get_args(choices):
        allowed = " or ".join(map(repr, get_args(choices)))
        raise ValueError(f"{parameter} is {given!r}; choose {allowed}.")


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

    def __init__(
        self, context: Context, mlflow_conn_id: str, retry: Retry, on_tracking_error: OnTrackingError
    ) -> None:
        self.context = context
        self.ti: Any = context["ti"]
        self.retry = retry
        self.on_tracking_error = on_tracking_error
        self.hook = MLflowClientHook(mlflow_conn_id=mlflow_conn_id)
        self.run: dict[str, Any] | None = None  # as MLflow's API gives it; None until it has started
        self.identity: dict[str, str] = {}
        self.may_have_twins = False
        self.process = os.getpid()

    @cached_property
    def retrying_hook(self) -> MLflowClientHook:
        """A hook for a server that has answered before, and so is likely to answer again."""
        return self.hook.with_limits(limits.later_requests(self.hook.connection))

    def start(
        self, experiment: str | None, run_name: str | None, tags: Mapping[str, Any], *, nested: bool
    ) -> None:
        """Continue a run of the task instance, or create one."""
        try:
            self.run = self._start(experiment, run_name, tags, nested=nested)
        except MLflowProviderError as error:
            if self.on_tracking_error == "fail":
                raise
            log.warning("This task runs without an MLflow run: %s", error)
            return
        info = self.run["info"]
        connection = self.hook.connection
        self.ti.xcom_push(XCOM_RUN_ID, info["run_id"])
        links.push_run_links(self.ti, connection, info["experiment_id"], info["run_id"])
        page = connection.page(f"experiments/{info['experiment_id']}/runs/{info['run_id']}")
        log.info("MLflow run %s: %s", info["run_name"], page)

    def _start(
        self, experiment: str | None, run_name: str | None, tags: Mapping[str, Any], *, nested: bool
    ) -> dict[str, Any]:
        first = self.hook.with_limits(limits.first_request(self.hook.connection))
        experiment_id = first.get_or_create_experiment(experiment or self.ti.dag_id)
        now = {**tags_of_task(self.context), parent_run.SUPERSEDED: "false"}
        self.identity = {TASK_INSTANCE: _identity(self.context, now[runs.DAG_RUN])}

        hook = self.retrying_hook
        before = None if is_first_start(self.ti) else self._newest_run(hook, experiment_id)
        if before and _is_same_try(before, now):
            return before
        is_retry = before is not None and _is_retry(before, now)
        if before and is_retry and self.retry == "continue":
            return self._continue(hook, before, {**tags, **now})

        if nested:
            now[runs.PARENT_RUN_ID] = self._parent_run_id(hook, before, now, experiment_id)
        if before:
            self._supersede(hook, before)
            if is_retry:
                now[RETRY_OF] = before["info"]["run_id"]
        all_tags = {**_description(self.context), **tags, **now}
        name = run_name or _name(self.context)
        run, self.may_have_twins = runs.create(hook, experiment_id, name, self.identity, all_tags)
        return run

    def _newest_run(self, hook: MLflowClientHook, experiment_id: str) -> dict[str, Any] | None:
        # The IDs that Airflow gives to tries ascend (UUID 7), whatever the clocks of the workers say.
        newest_first = [f"tags.`{TRY_ID}` DESC", "attributes.start_time DESC"]
        found = hook.search_runs([experiment_id], runs.with_tags(self.identity), newest_first, max_results=1)
        return found[0] if found else None

    def _parent_run_id(
        self,
        hook: MLflowClientHook,
        before: dict[str, Any] | None,
        now: Mapping[str, str],
        experiment_id: str,
    ) -> str:
        if before and (parent_run_id := runs.tags_of(before).get(runs.PARENT_RUN_ID)):
            runs.set_status(hook, parent_run_id, "RUNNING")
            return parent_run_id
        # Before MLflow is asked: a task that has ended since has left its parent run there.
        running = self.ti.get_ti_count(dag_id=self.ti.dag_id, run_ids=[self.ti.run_id], states=["running"])
        dag_run_tags = runs.tags_of_dag_run(now[runs.DEPLOYMENT], self.ti.dag_id, self.ti.run_id)
        return parent_run.get_or_create(hook, experiment_id, dag_run_tags, may_compete=running > 1)

    def _supersede(self, hook: MLflowClientHook, run: dict[str, Any]) -> None:
        run_id, superseded = run["info"]["run_id"], {parent_run.SUPERSEDED: "true"}
        if run["info"]["status"] == "RUNNING":
            runs.kill(hook, run_id, "its process was killed", superseded)
        elif runs.tags_of(run).get(parent_run.SUPERSEDED) != "true":
            runs.set_tags(hook, run_id, superseded)

    def _continue(
        self, hook: MLflowClientHook, run: dict[str, Any], tags: Mapping[str, Any]
    ) -> dict[str, Any]:
        run_id = run["info"]["run_id"]
        runs.set_status(hook, run_id, "RUNNING")
        runs.set_tags(hook, run_id, {**tags, runs.REASON: ""})
        if parent_run_id := runs.tags_of(run).get(runs.PARENT_RUN_ID):
            runs.set_status(hook, parent_run_id, "RUNNING")
        return run

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Point the ``mlflow`` package at the server, or at a temporary folder if there is no run."""
        if not self.run:
            with _tracking_to_temporary_folder():
                yield
            return
        retries = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(self.retrying_hook.connection.retries)}
        with self.hook.tracking(), mlflow_state.environment(retries):
            yield

    def end(self, status: Status, reason: str | None = None, *, is_retried: bool = False) -> None:
        """End the run.

        :param is_retried: whether Airflow will try the task again, which then counts for the parent run.
        """
        if not self.run or os.getpid() != self.process:  # a child process leaves the block, too
            return
        run_id = self.run["info"]["run_id"]
        try:
            if reason:
                tags = {runs.REASON: runs.as_reason(reason)}
                if is_retried:
                    tags[parent_run.SUPERSEDED] = "true"
                runs.set_tags(self.retrying_hook, run_id, tags)
            runs.set_status(self.retrying_hook, run_id, status)
            if not is_retried:
                self._end_parent(self.retrying_hook)
            if self.may_have_twins:
                runs.delete_twins(self.retrying_hook, self.run, self.identity)
        except MLflowProviderError as error:
            if self.on_tracking_error == "fail":
                raise
            log.warning("MLflow run %s may be left RUNNING: %s", run_id, error)

    def end_with(self, error: BaseException) -> None:
        """End the run with the status that an error calls for; the task still fails with that error."""
        self.on_tracking_error = "warn"
        if isinstance(error, AirflowSkipException):
            self.end("FINISHED")
            return
        if self.run and (cause := cause_of(error, self.run["info"]["artifact_uri"])):
            log.error("Artifacts of MLflow run %s: %s.", self.run["info"]["run_id"], cause)
        status: Status = "KILLED" if isinstance(error, INTERRUPTIONS) else "FAILED"
        is_retried = self.ti.try_number <= self.ti.max_tries and not isinstance(error, NEVER_RETRIED)
        self.end(status, f"{type(error).__name__}: {error}", is_retried=is_retried)

    def end_terminated(self) -> None:
        """End the run in the few seconds before Airflow kills the process."""
        if not self.run:
            return
        run_id = self.run["info"]["run_id"]
        hook = self.hook.with_limits(limits.TERMINATION, own_pool=True)
        try:
            runs.kill(hook, run_id, "Airflow ended the task")
            self._end_parent(hook)
        except MLflowProviderError as error:
            log.warning("MLflow run %s may be left RUNNING: %s", run_id, error)

    def _end_parent(self, hook: MLflowClientHook) -> None:
        if self.run and (parent_run_id := runs.tags_of(self.run).get(runs.PARENT_RUN_ID)):
            parent_run.end_if_children_ended(hook, self.run["info"]["experiment_id"], parent_run_id)


def _is_same_try(run: dict[str, Any], now: Mapping[str, str]) -> bool:
    """Tell whether a task that was deferred or rescheduled goes on, whose run is still open."""
    return run["info"]["status"] == "RUNNING" and runs.tags_of(run).get(TRY_ID) == now[TRY_ID]


def _is_retry(run: dict[str, Any], now: Mapping[str, str]) -> bool:
    """Tell a retry from a task that was cleared.

    :param run: the newest run of the task instance, of an earlier try.
    :param now: the tags of this try.
    """
    status, then = run["info"]["status"], runs.tags_of(run)
    # Clearing raises max_tries, but not that of a task that is running: it is ended, and tried again.
    if then.get(MAX_TRIES) != now[MAX_TRIES]:
        return False
    if status in ("RUNNING", "KILLED") and then.get(runs.CLEAR_NUMBER) != now[runs.CLEAR_NUMBER]:
        return False
    # Otherwise the run belongs to an earlier DAG run of the same ID, which was deleted.
    return int(then.get(TRY_NUMBER, 0)) < int(now[TRY_NUMBER])


def _loop_index(context: Context) -> int | None:
    loop: Any = context.get("loop")  # Airflow 3.4: an iteration of a task loop
    return loop.index if loop else None


def _identity(context: Context, dag_run: str) -> str:
    ti: Any = context["ti"]
    loop_index = _loop_index(context)
    iteration = () if loop_index is None else (loop_index,)
    return f"{dag_run}/{runs.key(ti.task_id, _map_index(ti), *iteration)}"


def _map_index(ti: Any) -> int:
    return -1 if ti.map_index is None else ti.map_index


def tags_of_task(context: Context) -> dict[str, str]:
    """Return the tags that lead from a run to the try of a task, and its DAG run, in Airflow."""
    ti: Any = context["ti"]
    dag_run: Any = context["dag_run"]
    tags = {
        **runs.tags_of_dag_run(deployment.get_or_create_name(), ti.dag_id, ti.run_id),
        "airflow.task_id": ti.task_id,
        "airflow.map_index": str(_map_index(ti)),
        TRY_ID: str(ti.id),
        TRY_NUMBER: str(ti.try_number),
        MAX_TRIES: str(ti.max_tries),
        runs.CLEAR_NUMBER: str(dag_run.clear_number or 0),
        "airflow.url": ti.log_url,
    }
    if dag_run.logical_date:  # a DAG run that was triggered has none
        tags["airflow.logical_date"] = dag_run.logical_date.isoformat()
    loop_index = _loop_index(context)
    if loop_index is not None:
        tags["airflow.loop_index"] = str(loop_index)
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


def _name(context: Context) -> str:
    """Return the task ID, with the map index and the iteration where there are some."""
    ti: Any = context["ti"]
    map_index, loop_index = _map_index(ti), _loop_index(context)
    mapped = "" if map_index == -1 else f"[{map_index}]"
    return ti.task_id + mapped + ("" if loop_index is None else f"#{loop_index}")
