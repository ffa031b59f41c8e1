"""A stand-in for Databricks' MLflow, according to its documentation, which records requests.

Source: https://docs.databricks.com/api/experiments/v1/search-experiments.md,
https://docs.databricks.com/api/experiments/v1/search-runs.md,
https://docs.databricks.com/api/model-registry/v1/search-registered-models.md
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "dapi-for-tests"
PREFIX = "/api/2.0/mlflow/"
MAX_RESULTS = {
    "experiments/search": 3_000,
    "runs/search": 50_000,
    "registered-models/search": 1_000,
    "model-versions/search": 10_000,
}


@dataclass
class Databricks:
    """A workspace: its address, the requests so far, its experiments and its registered models."""

    url: str
    requests: list[str] = field(default_factory=list)
    experiments: dict[str, str] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)

    def answer(self, path: str, params: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and body of the response to a request."""
        self.requests.append(path)
        if int(params.get("max_results", 0)) > MAX_RESULTS.get(path, 0):
            return refusal(400, "INVALID_PARAMETER_VALUE", "max_results is too large")
        if path == "experiments/create":
            if not params["name"].startswith("/"):
                return refusal(400, "INVALID_PARAMETER_VALUE", "Experiment name must be an absolute path")
            experiment_id = self.experiments.setdefault(params["name"], str(len(self.experiments) + 1))
            return 200, {"experiment_id": experiment_id}
        if path == "experiments/get-by-name" and (found := self.experiments.get(params["experiment_name"])):
            return 200, {"experiment": {"experiment_id": found, "lifecycle_stage": "active"}}
        if path == "registered-models/create":
            self.models.add(params["name"])
        if path.startswith("registered-models/") and params.get("name") in self.models:
            return 200, {"registered_model": {"name": params["name"]}}
        if path in MAX_RESULTS:
            return 200, {}
        return refusal(404, "RESOURCE_DOES_NOT_EXIST", f"{path} knows no such thing")


def refusal(status: int, error_code: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error_code": error_code, "message": message}


@contextmanager
def run_databricks() -> Iterator[Databricks]:
    """Run a workspace that accepts this token, for a block."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            address = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                status, answer = workspace.answer(
                    address.path.removeprefix(PREFIX), {**query, **json.loads(body or "{}")}
                )
            else:
                status, answer = refusal(401, "UNAUTHENTICATED", "no token")
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        workspace = Databricks(f"http://127.0.0.1:{listener.server_port}")
        threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        yield workspace
        listener.shutdown()
