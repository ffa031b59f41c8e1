"""A small client of Airflow's REST API: what the stack and the demo ask of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from local_stack.settings import LocalError


class AirflowApi:
    """Talks to the api-server on a port of this machine, as the administrator.

    Its methods raise :class:`requests.RequestException` when Airflow does not answer, or answers an error.
    See https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
    """

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._session = requests.Session()
        # SQLite has one writer at a time. A request that lost to another is undone, and answered with 500.
        retry = Retry(
            6, 0, 0, status_forcelist=[500], allowed_methods=None, backoff_factor=0.3, raise_on_status=False
        )
        self._session.mount("http://", HTTPAdapter(max_retries=retry))

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        # Longer than writers of SQLite wait for each other.
        response = self._session.request(method, f"{self._url}{path}", timeout=120, **arguments)
        if not response.ok:
            message = f"Airflow answers {response.status_code} to {method} {path}: {response.text}"
            raise requests.HTTPError(message, response=response)
        return response.json()

    def log_in(self) -> None:
        """Get a token for all later calls."""
        token = self._call("GET", "/auth/token")["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def heartbeats(self) -> dict[str, float]:
        """Return when the scheduler, the triggerer and the dag-processor last gave a sign of life.

        :return: seconds since the epoch, for those that Airflow calls healthy.
        """
        health = self._call("GET", "/api/v2/monitor/health")
        return {
            name.replace("_", "-"): _seconds(health[name][f"latest_{name}_heartbeat"])
            for name in ("scheduler", "triggerer", "dag_processor")
            if health[name]["status"] == "healthy"
        }

    def prepare_for_tasks(self) -> None:
        """Have the api-server make what it serves tasks with; the first task would wait seconds for it."""
        self._call("GET", "/execution/health")

    def create_or_replace(self, kind: str, entities: list[dict[str, Any]]) -> list[str]:
        """Create connections, variables or pools, all in one call.

        :param kind: ``connections``, ``variables`` or ``pools``.
        :return: what was wrong with those that Airflow did not take.
        """
        action = {"action": "create", "entities": entities, "action_on_existence": "overwrite"}
        answer = self._call("PATCH", f"/api/v2/{kind}", json={"actions": [action]})
        return [error["error"] for error in answer["create"]["errors"]]

    def parsed(self) -> dict[str, float]:
        """Return when each DAG file was last read: seconds since the epoch, by path below ``dags/``."""
        dags = self._call("GET", "/api/v2/dags", params={"limit": 100})["dags"]
        read = {dag["relative_fileloc"]: dag["last_parsed_time"] for dag in dags}
        read |= {error["filename"]: error["timestamp"] for error in self.import_errors()}
        return {path: _seconds(moment) for path, moment in read.items()}

    def import_errors(self) -> list[dict[str, Any]]:
        """Return what is wrong with DAG files: ``filename``, ``stack_trace``, ``timestamp``."""
        return self._call("GET", "/api/v2/importErrors", params={"limit": 100})["import_errors"]

    def unpause(self, dag_id: str) -> None:
        """Let the DAG run, also when its asset is updated."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, **params: Any) -> str:
        """Un-pause the DAG, start a run of it now, and return the DAG run's id."""
        self.unpause(dag_id)
        body = {"logical_date": None, "conf": params}
        return self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"]

    def first_dag_run(self, dag_id: str, since: str) -> dict[str, Any] | None:
        """Return the DAG's first run since a moment, such as another one's ``run_after``; or None."""
        wanted = {"run_after_gte": since, "order_by": "run_after", "limit": 1}
        return next(
            iter(self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=wanted)["dag_runs"]), None
        )

    def is_watched(self, asset: str) -> bool:
        """Tell whether the triggerer has begun to watch for events of the asset."""
        found = self._call("GET", "/api/v2/assets", params={"name_pattern": asset})["assets"]
        stores = (self._call("GET", f"/api/v2/assets/{each['id']}/state-store") for each in found)
        return any(store["asset_state_store"] for store in stores)

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a DAG run: ``state``, ``end_date`` (None while it runs), ``duration`` in seconds."""
        return self._call("GET", _run(dag_id, run_id))

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return a DAG run's task instances: ``task_id``, ``map_index``, ``state``, ``try_number``."""
        path = f"{_run(dag_id, run_id)}/taskInstances"
        return self._call("GET", path, params={"limit": 100})["task_instances"]

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return a task instance: also ``hostname``, where its newest try runs, or ran."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task_id}"
        return self._call("GET", path if map_index == -1 else f"{path}/{map_index}")

    def xcom(self, dag_id: str, run_id: str, key: str, task_id: str = "~") -> Any:
        """Return the value that a task of the DAG run pushed under the key.

        :param task_id: by default whichever task pushed it first.
        :raises LocalError: none did.
        """
        tasks = f"{_run(dag_id, run_id)}/taskInstances"
        found = self._call("GET", f"{tasks}/{task_id}/xcomEntries", params={"xcom_key": key})["xcom_entries"]
        if not found:
            raise LocalError(f"{dag_id}: no task of the DAG run {run_id} pushed an XCom {key!r}.")
        path = f"{tasks}/{found[0]['task_id']}/xcomEntries/{key}"
        return self._call("GET", path, params={"map_index": found[0]["map_index"]})["value"]

    def log(self, dag_id: str, run_id: str, task: dict[str, Any]) -> str:
        """Return the log of a task instance's last try, an exception as Python itself would show it."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        lines = []
        for entry in self._call("GET", path, params={"map_index": task["map_index"]})["content"]:
            lines.append(entry["event"])
            for error in entry.get("error_detail") or []:
                frames = error["frames"]
                lines += ['  File "{filename}", line {lineno}, in {name}'.format(**at) for at in frames]
                lines.append(f"{error['exc_type']}: {error['exc_value']}")
        return "\n".join(lines)


def _run(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"


def _seconds(moment: str) -> float:
    # Python 3.10 does not read the Z.
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
