"""MLflow's REST calls for runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlflow_provider.hooks.client import as_tag_list, quoted
from mlflow_provider.version_compat import redact

if TYPE_CHECKING:
    from mlflow_provider.hooks.client import MLflowClientHook

# Tags
PARENT_RUN_ID = "mlflow.parentRunId"
REASON = "airflow.reason"  # why the run failed or was killed

MAX_REASON_LENGTH = 1000
MAX_RESULTS = 10_000


def create(hook: MLflowClientHook, experiment_id: str, run_name: str, tags: Mapping[str, Any]) -> str:
    """Create a RUNNING run, and return its ID."""
    params = {
        "experiment_id": experiment_id,
        "run_name": run_name,
        "start_time": _now(),
        "tags": as_tag_list(tags),
    }
    return hook.call("POST", "runs/create", params)["run"]["info"]["run_id"]


def delete(hook: MLflowClientHook, run_id: str) -> None:
    """Delete a run."""
    hook.call("POST", "runs/delete", {"run_id": run_id})


def set_status(hook: MLflowClientHook, run_id: str, status: str) -> None:
    """Set the status of a run; any but RUNNING ends it now."""
    end_time = None if status == "RUNNING" else _now()
    hook.call("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": end_time})


def kill(hook: MLflowClientHook, run_id: str, reason: str) -> None:
    """End a run as KILLED."""
    set_status(hook, run_id, "KILLED")
    set_reason(hook, run_id, reason)


def set_reason(hook: MLflowClientHook, run_id: str, reason: str) -> None:
    """Note why a run failed or was killed; secrets that Airflow knows are masked."""
    set_tags(hook, run_id, {REASON: str(redact(reason))[:MAX_REASON_LENGTH]})


def set_tags(hook: MLflowClientHook, run_id: str, tags: Mapping[str, Any]) -> None:
    """Set tags of a run."""
    hook.call("POST", "runs/log-batch", {"run_id": run_id, "tags": as_tag_list(tags)})


def delete_tag(hook: MLflowClientHook, run_id: str, key: str) -> None:
    """Delete a tag of a run."""
    hook.call("POST", "runs/delete-tag", {"run_id": run_id, "key": key})


def tags_of(run: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a run as MLflow's API gives it."""
    return {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}


def tags_of_dag_run(dag_id: str, run_id: str) -> dict[str, str]:
    """Return the tags that all runs of a DAG run have, and no others."""
    return {"airflow.dag_id": dag_id, "airflow.run_id": run_id}


def with_tags(tags: Mapping[str, Any]) -> str:
    """Return the filter that finds the runs with these tags."""
    return " AND ".join(f"tags.`{key}` = {quoted(str(value))}" for key, value in tags.items())


def search(
    hook: MLflowClientHook,
    filter_string: str,
    *,
    newest_first: bool = False,
    max_results: int = MAX_RESULTS,
) -> list[dict[str, Any]]:
    """Return the runs in all experiments that match a filter.

    :param filter_string: e.g. ``attributes.status = 'RUNNING'``.
    """
    experiments = hook.call("POST", "experiments/search", {"max_results": MAX_RESULTS})
    ids = [experiment["experiment_id"] for experiment in experiments.get("experiments", [])]
    order = [f"attributes.start_time {'DESC' if newest_first else 'ASC'}"]
    return hook.search_runs(ids, filter_string, order, max_results)


def _now() -> int:
    return int(time.time() * 1000)  # milliseconds since the epoch, as MLflow counts
