"""Runs in MLflow's REST API, and the tags that lead from a run to Airflow."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import redact

from mlflow_provider.hooks.client import MLflowClientHook, as_tag_list, create_once, equals
from mlflow_provider.server.replica import until_visible
from mlflow_provider.tracking import instance
from mlflow_provider.tracking.shared_run import PARENT_RUN_ID as PARENT_RUN_ID

# Tags
INSTANCE = "airflow.instance"
DAG_ID = "airflow.dag_id"
RUN_ID = "airflow.run_id"
# The whole identity in one value, because each tag of a filter adds a join in MLflow's database.
DAG_RUN = "airflow.dag_run"
TASK_INSTANCE = "airflow.task_instance"  # over all tries
# Each try has its own ID in Airflow, and is one of max_tries + 1.
TRY_ID = "airflow.try_id"
TRY_NUMBER = "airflow.try_number"
MAX_TRIES = "airflow.max_tries"
CLEAR_NUMBER = "airflow.clear_number"  # how often tasks of the DAG run had been cleared
RETRY_OF = "airflow.retry_of"  # ID of the previous try's run
REASON = "airflow.reason"  # why the run failed or was killed
DESCRIPTION = "mlflow.note.content"
# Whether another run of the same task instance has replaced this one, or will; its status is then no longer
# its parent's.
SUPERSEDED = "airflow.superseded"

MAX_REASON_LENGTH = 1000
MAX_RESULTS = 10_000
MAX_EXPERIMENTS = 10_000


@dataclass(frozen=True)
class Run:
    """A run of an experiment.

    :param run_id: its ID.
    :param experiment_id: the ID of its experiment.
    :param name: its name.
    :param status: ``RUNNING``, ``FINISHED``, ``FAILED``, ``KILLED`` or ``SCHEDULED``.
    :param start_time: milliseconds since the epoch.
    :param end_time: milliseconds since the epoch; None while it is running.
    :param artifact_uri: where its artifacts are stored.
    :param tags: values by key.
    :param metrics: the last value of each metric, by key.
    :param may_have_duplicates: whether the request that created it was repeated. One that is still on its way
        may then create another run.
    """

    run_id: str
    experiment_id: str
    name: str
    status: str
    start_time: int
    end_time: int | None = None
    artifact_uri: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    may_have_duplicates: bool = False

    @classmethod
    def from_api(cls, run: Mapping[str, Any]) -> Run:
        """Return a run from MLflow's answer.

        :param run: has ``info`` and ``data``. MLflow leaves out what is empty, and gives NaN as text.
        """
        info, data = run["info"], run.get("data", {})
        end_time = info.get("end_time")
        return cls(
            run_id=info["run_id"],
            experiment_id=info["experiment_id"],
            name=info.get("run_name") or info["run_id"],
            status=info["status"],
            start_time=int(info.get("start_time", 0)),
            end_time=int(end_time) if end_time else None,
            artifact_uri=info.get("artifact_uri", ""),
            tags={tag["key"]: tag["value"] for tag in data.get("tags", [])},
            metrics={metric["key"]: float(metric["value"]) for metric in data.get("metrics", [])},
        )

    @property
    def page(self) -> str:
        """The run's page in MLflow, for :meth:`MLflowConnection.page`."""
        return f"experiments/{self.experiment_id}/runs/{self.run_id}"


def create(
    hook: MLflowClientHook,
    experiment_id: str,
    run_name: str,
    identity: Mapping[str, str],
    tags: Mapping[str, Any],
) -> Run:
    """Create a RUNNING run; only one, even if the server's answer is lost.

    :param identity: tags that no other run with this start time in milliseconds can have.
    :param tags: further tags.
    """
    start_time = _now()
    params = {
        "experiment_id": experiment_id,
        "run_name": run_name,
        "start_time": start_time,
        "tags": as_tag_list({**tags, **identity}),
    }
    attempts = 0

    def send(once: MLflowClientHook) -> Run:
        nonlocal attempts
        attempts += 1
        answer = until_visible(
            f"experiment {experiment_id}", lambda: once.call("POST", "runs/create", params)
        )
        return Run.from_api(answer["run"])

    def find() -> Run | None:
        return next(iter(_created_at(hook, experiment_id, identity, start_time)), None)

    return replace(create_once(hook, send, find), may_have_duplicates=attempts > 1)


def delete_duplicates(hook: MLflowClientHook, run: Run, identity: Mapping[str, str]) -> None:
    """Delete other runs that were created with a run because the request was repeated."""
    for duplicate in _created_at(hook, run.experiment_id, identity, run.start_time):
        if duplicate.run_id != run.run_id:
            delete(hook, duplicate.run_id)


def _created_at(
    hook: MLflowClientHook, experiment_id: str, identity: Mapping[str, str], start_time: int
) -> list[Run]:
    return search(hook, [experiment_id], f"{tag_filter(identity)} AND attributes.start_time = {start_time}")


def status(hook: MLflowClientHook, run: Run) -> str:
    """Return the current status of a run that a search has shown, perhaps from a replica that is behind.

    MLflow answers an update, even one that changes nothing, from the database that it writes to.
    """
    if run.status != "RUNNING":
        return run.status
    return hook.call("POST", "runs/update", {"run_id": run.run_id})["run_info"]["status"]


def delete(hook: MLflowClientHook, run_id: str) -> None:
    """Delete a run."""
    hook.call("POST", "runs/delete", {"run_id": run_id})


def set_status(hook: MLflowClientHook, run_id: str, status: str) -> None:
    """Set the status of a run; any but RUNNING ends it now."""
    end_time = None if status == "RUNNING" else _now()
    hook.call("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": end_time})


def end(
    hook: MLflowClientHook, run_id: str, status: str, reason: str, tags: Mapping[str, Any] | None = None
) -> None:
    """End a run, with the reason and further tags; secrets that Airflow knows are masked."""
    set_tags(hook, run_id, {**(tags or {}), REASON: str(redact(reason))[:MAX_REASON_LENGTH]})
    set_status(hook, run_id, status)


def show_reason(hook: MLflowClientHook, run_id: str) -> None:
    """Put why a run has ended into its description's first line, which MLflow shows at the top.

    The rest may be the user's own text. So the description stays as it is if a replica of MLflow's database
    does not show the end of the run yet.
    """
    run = Run.from_api(hook.get_run(run_id))
    if run.status != "RUNNING":
        first_line = run.tags.get(REASON, "").partition("\n")[0]
        set_tags(hook, run_id, {DESCRIPTION: f"{first_line}\n\n{run.tags.get(DESCRIPTION, '')}"})


def without_reason(run: Run) -> dict[str, str]:
    """Return the tags of a run that continues after :func:`show_reason`."""
    if not (reason := run.tags.get(REASON)):
        return {}
    first_line = reason.partition("\n")[0]
    return {REASON: "", DESCRIPTION: run.tags.get(DESCRIPTION, "").removeprefix(f"{first_line}\n\n")}


def set_tags(hook: MLflowClientHook, run_id: str, tags: Mapping[str, Any]) -> None:
    """Set tags of a run."""
    hook.call("POST", "runs/log-batch", {"run_id": run_id, "tags": as_tag_list(tags)})


def key(*parts: Any) -> str:
    """Join names unambiguously, even if they contain separators."""
    return "/".join(quote(str(part), safe=" :+@") for part in parts)


def dag_run_tags(dag_id: str, run_id: str) -> dict[str, str]:
    """Return the tags that all runs of a DAG run have."""
    return {
        INSTANCE: instance.name(),
        DAG_RUN: key(instance.name(), dag_id, run_id),
        DAG_ID: dag_id,
        RUN_ID: run_id,
    }


def dag_run_filter(dag_id: str, run_id: str) -> str:
    """Return the filter for the runs of a DAG run of this Airflow instance."""
    return tag_filter({DAG_RUN: key(instance.name(), dag_id, run_id)})


def instance_filter() -> str:
    """Return the filter for the runs of this Airflow instance."""
    return tag_filter({INSTANCE: instance.name()})


def tag_filter(tags: Mapping[str, Any]) -> str:
    """Return the filter for the runs with these tags."""
    return " AND ".join(equals(f"tags.`{key}`", str(value)) for key, value in tags.items())


def search(
    hook: MLflowClientHook,
    experiment_ids: Sequence[str],
    filter_string: str,
    order_by: Sequence[str] | None = None,
    max_results: int = MAX_RESULTS,
) -> list[Run]:
    """Return the runs of some experiments that match a filter.

    :param filter_string: e.g. ``attributes.status = 'RUNNING'``.
    :param order_by: e.g. ``["attributes.start_time DESC"]``.
    """
    return [
        Run.from_api(run) for run in hook.search_runs(experiment_ids, filter_string, order_by, max_results)
    ]


def all_experiments(hook: MLflowClientHook) -> list[str]:
    """Return the IDs of the server's experiments (the first 10,000)."""
    experiments = hook.search_experiments(max_results=MAX_EXPERIMENTS)
    return [experiment["experiment_id"] for experiment in experiments]


def _now() -> int:
    return int(time.time() * 1000)  # milliseconds since the epoch
