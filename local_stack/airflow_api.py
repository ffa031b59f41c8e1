"""A small client for the parts of Airflow's REST API that the stack and the demo use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from local_stack.settings import LocalError


class AirflowApi:
    """Sends requests to the api-server on a port of this machine, as the administrator.

    Its methods raise :class:`requests.RequestException` if Airflow does not respond or reports an error.
    See https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
    """

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._session = requests.Session()
        # SQLite allows one writer at a time. A request that loses to another is rolled back and fails with
        # 500.
        retry = Retry(
            6, 0, 0, status_forcelist=[500], allowed_methods=None, backoff_factor=0.3, raise_on_status=False
        )
        self._session.mount("http://", HTTPAdapter(max_retries=retry))

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request with arguments of :mod:`requests`, and return the JSON of the response."""
        # Longer than SQLite's writers wait for each other.
        response = self._session.request(method, f"{self._url}{path}", timeout=120, **arguments)
        if not response.ok:
            message = f"{method} {path}: Airflow returned {response.status_code}: {response.text}"
            raise requests.HTTPError(message, response=response)
        return response.json()

    def _entries(self, path: str, key: str) -> list[dict[str, Any]]:
        """Return all entries of a list, which Airflow returns page by page."""
        entries: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", path, params={"limit": 100, "offset": len(entries)})
            entries += page[key]
            if not page[key] or len(entries) >= page["total_entries"]:
                return entries

    def log_in(self) -> None:
        """Get a token for all later calls."""
        token = self.call("GET", "/auth/token")["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def heartbeats(self) -> dict[str, float]:
        """Return the last heartbeats of scheduler, triggerer and dag-processor.

        :return: seconds since the epoch, of those that Airflow considers healthy.
        """
        health = self.call("GET", "/api/v2/monitor/health")
        return {
            name.replace("_", "-"): _seconds(health[name][f"latest_{name}_heartbeat"])
            for name in ("scheduler", "triggerer", "dag_processor")
            if health[name]["status"] == "healthy"
        }

    def prepare_for_tasks(self) -> None:
        """Load the api-server's part for tasks; otherwise the first task waits seconds for it."""
        self.call("GET", "/execution/health")

    def create_or_replace(self, kind: str, entities: list[dict[str, Any]]) -> list[str]:
        """Create connections, variables or pools in one request.

        :param kind: ``connections``, ``variables`` or ``pools``.
        :return: the errors of those that Airflow rejected.
        """
        action = {"action": "create", "entities": entities, "action_on_existence": "overwrite"}
        result = self.call("PATCH", f"/api/v2/{kind}", json={"actions": [action]})
        return [error["error"] for error in result["create"]["errors"]]

    def parsed(self) -> dict[str, float]:
        """Return when each DAG file was last parsed: seconds since the epoch, by path below ``dags/``."""
        dags = self._entries("/api/v2/dags", "dags")
        times = {dag["relative_fileloc"]: dag["last_parsed_time"] for dag in dags}
        times |= {error["filename"]: error["timestamp"] for error in self.import_errors()}
        return {path: _seconds(time) for path, time in times.items()}

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the import errors of DAG files: ``filename``, ``stack_trace``, ``timestamp``."""
        return self._entries("/api/v2/importErrors", "import_errors")

    def unpause(self, dag_id: str) -> None:
        """Allow the DAG to run, also when its asset is updated."""
        self.call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, **params: Any) -> str:
        """Unpause and trigger the DAG, and return the DAG run's ID."""
        self.unpause(dag_id)
        body = {"logical_date": None, "conf": params}
        return self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"]

    def first_dag_run(self, dag_id: str, since: str) -> dict[str, Any] | None:
        """Return the DAG's first run since a time, such as another one's ``run_after``, or None."""
        params = {"run_after_gte": since, "order_by": "run_after", "limit": 1}
        dag_runs = self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=params)["dag_runs"]
        return dag_runs[0] if dag_runs else None

    def is_watched(self, asset: str) -> bool:
        """Return whether the triggerer has begun to watch the asset."""
        assets = self.call("GET", "/api/v2/assets", params={"name_pattern": asset})["assets"]
        stores = (self.call("GET", f"/api/v2/assets/{each['id']}/state-store") for each in assets)
        return any(store["asset_state_store"] for store in stores)

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a DAG run: ``state``, ``end_date`` (None while it runs), ``duration`` in seconds."""
        return self.call("GET", _run(dag_id, run_id))

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return a DAG run's task instances: ``task_id``, ``map_index``, ``state``, ``try_number``."""
        return self._entries(f"{_run(dag_id, run_id)}/taskInstances", "task_instances")

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return a task instance, including the ``hostname`` of its latest try."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task_id}"
        return self.call("GET", path if map_index == -1 else f"{path}/{map_index}")

    def xcom(self, dag_id: str, run_id: str, key: str, task_id: str = "~") -> Any:
        """Return an XCom of the DAG run.

        :param task_id: by default the first task that pushed the key.
        :raises LocalError: no task pushed it.
        """
        tasks = f"{_run(dag_id, run_id)}/taskInstances"
        entries = self.call("GET", f"{tasks}/{task_id}/xcomEntries", params={"xcom_key": key})["xcom_entries"]
        if not entries:
            raise LocalError(f"{dag_id}: no task of the DAG run {run_id} pushed the XCom {key!r}.")
        path = f"{tasks}/{entries[0]['task_id']}/xcomEntries/{key}"
        return self.call("GET", path, params={"map_index": entries[0]["map_index"]})["value"]

    def log(self, dag_id: str, run_id: str, task: dict[str, Any]) -> str:
        """Return the log of a task instance's last try, with exceptions as Python shows them."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        lines = []
        for entry in self.call("GET", path, params={"map_index": task["map_index"]})["content"]:
            lines.append(entry["event"])
            for error in entry.get("error_detail") or []:
                frames = error["frames"]
                lines += ['  File "{filename}", line {lineno}, in {name}'.format(**frame) for frame in frames]
                lines.append(f"{error['exc_type']}: {error['exc_value']}")
        return "\n".join(lines)


def _run(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"


def _seconds(time: str) -> float:
    # Python 3.10 does not accept the Z.
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
