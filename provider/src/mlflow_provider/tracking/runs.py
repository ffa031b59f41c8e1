"""MLflow's REST calls for runs, and the tags that lead from a run to Airflow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import redact

from mlflow_provider.exceptions import MLflowAPIError, MLflowProviderError
from mlflow_provider.hooks.client import as_tag_list, quoted
from mlflow_provider.server.limits import Limits
from mlflow_provider.tracking import deployment

if TYPE_CHECKING:
    from mlflow_provider.hooks.client import MLflowClientHook

# Tags
PARENT_RUN_ID = "mlflow.parentRunId"
DEPLOYMENT = "airflow.deployment"
# The whole identity in one value, as each tag of a filter is another join in MLflow's database.
DAG_RUN = "airflow.dag_run"
CLEAR_NUMBER = "airflow.clear_number"  # how often tasks of the DAG run were cleared before
REASON = "airflow.reason"  # why the run failed or was killed

MAX_REASON_LENGTH = 1000
MAX_RESULTS = 10_000
MAX_EXPERIMENTS = 10_000


def create(
    hook: MLflowClientHook,
    experiment_id: str,
    run_name: str,
    identity: Mapping[str, str],
    tags: Mapping[str, Any],
) -> tuple[dict[str, Any], bool]:
    """Create a RUNNING run; just one, also where the server's answer is lost.

    :param identity: tags that only this run can have, if it starts at this millisecond.
    :param tags: further tags.
    :return: the run, and whether the server was asked more than once. Then a request that is still on its
        way may create another run, which :func:`delete_twins` deletes.
    """
    from mlflow_provider.server.rest import RETRIED_STATUS_CODES

    start_time = _now()
    params = {
        "experiment_id": experiment_id,
        "run_name": run_name,
        "start_time": start_time,
        "tags": as_tag_list({**tags, **identity}),
    }
    connection = hook.connection
    once = hook.with_limits(Limits(connection.timeout, retries=0))
    for tries_left in reversed(range(connection.retries + 1)):
        try:
            answer = once.call("POST", "runs/create", params)
        except MLflowProviderError as error:
            is_refused = isinstance(error, MLflowAPIError) and error.status_code not in RETRIED_STATUS_CODES
            if is_refused or not tries_left:
                raise
        else:
            return answer["run"], tries_left < connection.retries
        # Waits until the server answers again, which may have created the run.
        if found := _created_at(hook, experiment_id, identity, start_time):
            return found[0], True
    raise AssertionError  # the last try has returned or raised


def delete_twins(hook: MLflowClientHook, run: Mapping[str, Any], identity: Mapping[str, str]) -> None:
    """Delete other runs that were created with a run because the server was asked more than once."""
    info = run["info"]
    for twin in _created_at(hook, info["experiment_id"], identity, info["start_time"]):
        if twin["info"]["run_id"] != info["run_id"]:
            delete(hook, twin["info"]["run_id"])


def _created_at(
    hook: MLflowClientHook, experiment_id: str, identity: Mapping[str, str], start_time: int
) -> list[dict[str, Any]]:
    filter_string = f"{with_tags(identity)} AND attributes.start_time = {start_time}"
    return hook.search_runs([experiment_id], filter_string)


def delete(hook: MLflowClientHook, run_id: str) -> None:
    """Delete a run."""
    hook.call("POST", "runs/delete", {"run_id": run_id})


def set_status(hook: MLflowClientHook, run_id: str, status: str) -> None:
    """Set the status of a run; any but RUNNING ends it now."""
    end_time = None if status == "RUNNING" else _now()
    hook.call("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": end_time})


def kill(hook: MLflowClientHook, run_id: str, reason: str, tags: Mapping[str, Any] | None = None) -> None:
    """End a run as KILLED, note why, and set further tags."""
    set_status(hook, run_id, "KILLED")
    set_tags(hook, run_id, {**(tags or {}), REASON: as_reason(reason)})


def as_reason(text: str) -> str:
    """Return why a run ended as the value of a tag; secrets that Airflow knows are masked."""
    return str(redact(text))[:MAX_REASON_LENGTH]


def set_tags(hook: MLflowClientHook, run_id: str, tags: Mapping[str, Any]) -> None:
    """Set tags of a run."""
    hook.call("POST", "runs/log-batch", {"run_id": run_id, "tags": as_tag_list(tags)})


def tags_of(run: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a run as MLflow's API gives it."""
    return {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}


def key(*parts: Any) -> str:
    """Return names as one, whatever they contain."""
    return "/".join(quote(str(part), safe=" :+@") for part in parts)


def tags_of_dag_run(deployment: str, dag_id: str, run_id: str) -> dict[str, str]:
    """Return the tags that all runs of a DAG run have.

    :param deployment: name of the deployment, see :mod:`mlflow_provider.tracking.deployment`.
    """
    return {
        DEPLOYMENT: deployment,
        DAG_RUN: key(deployment, dag_id, run_id),
        "airflow.dag_id": dag_id,
        "airflow.run_id": run_id,
    }


def of_dag_run(dag_id: str, run_id: str) -> str:
    """Return the filter that finds the runs of a DAG run of this Airflow deployment."""
    return with_tags({DAG_RUN: key(deployment.name(), dag_id, run_id)})


def of_deployment() -> str:
    """Return the filter that finds the runs of this Airflow deployment."""
    return with_tags({DEPLOYMENT: deployment.name()})


def with_tags(tags: Mapping[str, Any]) -> str:
    """Return the filter that finds the runs with these tags."""
    return " AND ".join(f"tags.`{key}` = {quoted(str(value))}" for key, value in tags.items())


def search(hook: MLflowClientHook, filter_string: str) -> list[dict[str, Any]]:
    """Return the runs that match a filter, in whatever experiment (the first 10,000 of the server).

    :param filter_string: e.g. ``attributes.status = 'RUNNING'``.
    """
    ids = [found["experiment_id"] for found in hook.search_experiments(max_results=MAX_EXPERIMENTS)]
    return hook.search_runs(ids, filter_string, max_results=MAX_RESULTS)


def _now() -> int:
    return int(time.time() * 1000)  # milliseconds since the epoch, as MLflow counts
