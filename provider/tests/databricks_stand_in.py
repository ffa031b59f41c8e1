"""A stand-in for Databricks: a real MLflow server that keeps to the rules of Databricks' documentation.

A test reaches it under the name of a workspace, through the variable ``http_proxy``. It offers what these
pages list, what the ``mlflow`` package needs for the artifacts of a workspace, and of Unity Catalog only the
creation of a registered model:
https://docs.databricks.com/api/experiments/v1, https://docs.databricks.com/api/model-registry/v1,
https://docs.databricks.com/api/workspace/servingendpoints/query,
https://github.com/mlflow/mlflow/blob/master/mlflow/protos/databricks_artifacts.proto,
https://github.com/mlflow/mlflow/blob/master/mlflow/protos/databricks_uc_registry_messages.proto
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlsplit

import pytest
import requests

from http_servers import Handler, run_http_server

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer

HOST = "http://stand-in.cloud.databricks.com"
TOKEN = "dapi-for-tests"
CLIENT_ID, CLIENT_SECRET = "a-service-principal", "its-secret"
OAUTH_TOKEN = "oauth-for-tests"
API = "/api/2.0/mlflow/"
ENDPOINTS = {
    "experiments": "create delete get get-by-name list restore search set-experiment-tag update",
    "runs": "create delete delete-tag get log-batch log-inputs log-metric log-model log-parameter outputs "
    "restore search set-tag update",
    "metrics": "get-history",
    "registered-models": "create delete delete-tag get get-latest-versions rename search set-tag update",
    "model-versions": "create delete delete-tag get get-download-uri search set-tag transition-stage update",
}
LOGGED_MODELS = re.compile(r"logged-models(/search|/m-\w+(/params|/tags(/.+)?)?)?")
SERVING_ENDPOINT = re.compile(r"/serving-endpoints/[^/]+/invocations")
MAX_RESULTS = {
    "experiments/search": 3_000,
    "runs/search": 50_000,
    "metrics/get-history": 25_000,
    "registered-models/search": 1_000,
    "model-versions/search": 10_000,
    "logged-models/search": 50,
}
# The ID of a run or a logged model, and the path below its artifacts.
ARTIFACT_URI = re.compile(r"dbfs:/databricks/mlflow-tracking/\d+/(?:logged_models/)?([^/]+)/artifacts/?(.*)")

JSON = dict[str, Any]


class RefusedError(Exception):
    """Status, error code and message of the response to a request that breaks a rule."""


@dataclass
class Databricks:
    """A workspace.

    :param server: the server behind it.
    :param url: where it listens.
    :param requests: the requests so far, e.g. ``POST runs/create``.
    :param token: the personal access token that it accepts.
    :param artifacts: contents by ID of the run or logged model, and path.
    """

    server: MLflowServer
    url: str
    requests: list[str] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    token: str | None = TOKEN

    @property
    def connection(self) -> JSON:
        """The fields of an Airflow connection to it, with its own model registry."""
        extra = {"registry_uri": "databricks"}
        return {"host": HOST, "login": "token", "password": TOKEN, "extra": extra}

    def answer(self, method: str, path: str, params: JSON, authorization: str | None) -> JSON:
        """Return the response to a request, or raise :class:`RefusedError`."""
        if path == "/.well-known/databricks-config":
            return {"oidc_endpoint": f"{HOST}/oidc"}
        if path == "/oidc/.well-known/oauth-authorization-server":
            return {"token_endpoint": f"{HOST}/oidc/v1/token", "authorization_endpoint": f"{HOST}/oidc/v1/x"}
        if path == "/oidc/v1/token":
            return self._issue_token(params, authorization)
        if authorization not in (f"Bearer {self.token}", f"Bearer {OAUTH_TOKEN}"):
            raise RefusedError(401, "UNAUTHENTICATED", "no token")
        if SERVING_ENDPOINT.fullmatch(path):
            return {"predictions": [0.5] * len(params["dataframe_records"])}
        path = path.removeprefix(API)
        if path == "unity-catalog/registered-models/create":
            if params["name"].count(".") != 2:
                raise RefusedError(400, "INVALID_PARAMETER_VALUE", "specify all three levels")
            return {"registered_model": {"name": params["name"]}}
        return self._answer_about_artifacts(path, params) or self._answer(method, path, params)

    def _issue_token(self, params: JSON, authorization: str | None) -> JSON:
        """Issue a token, by https://docs.databricks.com/aws/en/dev-tools/auth/oauth-m2m."""
        login = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        grant = {"grant_type": "client_credentials", "scope": "all-apis"}
        if authorization != f"Basic {login}" or params != grant:
            raise RefusedError(401, "invalid_client", "Client authentication failed")
        return {"access_token": OAUTH_TOKEN, "token_type": "Bearer", "expires_in": 3600}

    def _answer(self, method: str, path: str, params: JSON) -> JSON:
        group, _, name = path.partition("/")
        if name not in ENDPOINTS.get(group, "").split() and not LOGGED_MODELS.fullmatch(path):
            raise RefusedError(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")
        broken_rules = {
            "Experiment name must be an absolute path": path == "experiments/create"
            and not params["name"].startswith("/"),
            "max_results is too large": int(params.get("max_results", 0)) > MAX_RESULTS.get(path, 0),
            "filter must be a single boolean condition": path
            in ("registered-models/search", "model-versions/search")
            and " and " in params.get("filter", ""),
            "models:/<model_id> is not supported": path == "model-versions/create"
            and params["source"].startswith("models:/m-"),
        }
        for message, is_broken in broken_rules.items():
            if is_broken:
                raise RefusedError(400, "INVALID_PARAMETER_VALUE", message)
        if path == "experiments/create":
            location = f"dbfs:/databricks/mlflow-tracking/{uuid.uuid4().int}"
            params = {"artifact_location": location, **params}
        answer = self._ask_server(method, path, params)
        if path == "model-versions/create":  # it copies the model first
            answer["model_version"]["status"] = "PENDING_REGISTRATION"
        return answer

    def _ask_server(self, method: str, path: str, params: JSON) -> JSON:
        where: JSON = {"params" if method == "GET" else "json": params}
        response = requests.request(method, f"{self.server.url}{API}{path}", **where)
        # Databricks has another name for the folder with the logged models of an experiment.
        answer = json.loads(re.sub(r"(mlflow-tracking/\d+)/models/", r"\1/logged_models/", response.text))
        if not response.ok:
            raise RefusedError(response.status_code, answer["error_code"], answer["message"])
        return answer

    def _answer_about_artifacts(self, path: str, params: JSON) -> JSON | None:
        """Return the content of a folder, or signed URLs; None if the request is about something else."""
        if of_model := re.fullmatch(r"logged-models/(m-\w+)/artifacts/(\S+)", path):
            model_id = of_model[1]
            if of_model[2] == "directories":
                return self._folder(model_id, params.get("artifact_directory_path", ""))
            signed = [{"credential_info": self._signed(model_id, each)} for each in params["paths"]]
            return {"credentials": signed}
        if path == "artifacts/list":
            return self._folder(params["run_id"], params.get("path", ""))
        if path in ("artifacts/credentials-for-read", "artifacts/credentials-for-write"):
            return {"credential_infos": [self._signed(params["run_id"], each) for each in params["path"]]}
        if path in ("model-versions/list-artifacts", "model-versions/get-signed-download-uri"):
            version = {"name": params["name"], "version": params["version"]}
            source = self._ask_server("GET", "model-versions/get-download-uri", version)["artifact_uri"]
            match = ARTIFACT_URI.fullmatch(source)
            assert match, source
            name = "/".join(filter(None, [match[2], params.get("path", "")]))
            return (self._folder if path.endswith("list-artifacts") else self._signed)(match[1], name)
        return None

    def _signed(self, owner: str, name: str) -> JSON:
        uri = f"{self.url}/{owner}/{quote(name)}?signature=for-tests"
        return {"path": name, "signed_uri": uri, "type": "AWS_PRESIGNED_URL"}

    def _folder(self, owner: str, folder: str) -> JSON:
        below = f"{folder}/" if folder else ""
        prefix = f"{owner}/{below}"
        files: dict[str, JSON] = {}
        for path, content in sorted(self.artifacts.items()):
            if path.startswith(prefix):
                name, _, rest = path.removeprefix(prefix).partition("/")
                size = {} if rest else {"file_size": len(content)}
                files[name] = {"path": below + name, "is_dir": bool(rest), **size}
        return {"files": list(files.values())}


@contextmanager
def run_databricks(server: MLflowServer) -> Iterator[Databricks]:
    """Run a workspace in front of a server for a block."""

    class WorkspaceHandler(Handler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            address = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if address.netloc:
                self._send(*self._answer_as_workspace(address.path, address.query, body))
                return
            stored = unquote(address.path).removeprefix("/")  # a signed URL
            if self.command == "PUT":
                workspace.artifacts[stored] = body
            self._send(200, workspace.artifacts[stored])

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815

        def _answer_as_workspace(self, path: str, query: str, body: bytes) -> tuple[int, bytes]:
            workspace.requests.append(f"{self.command} {path.removeprefix(API)}")
            is_json = self.headers.get("Content-Type", "").startswith("application/json")
            params = {name: values[0] for name, values in parse_qs(query).items()}
            params |= json.loads(body) if is_json and body else {}
            if path == "/oidc/v1/token":
                params = dict(parse_qsl(body.decode()))
            try:
                answer = workspace.answer(self.command, path, params, self.headers.get("Authorization"))
            except RefusedError as refused:
                status, error_code, message = refused.args
                return status, json.dumps({"error_code": error_code, "message": message}).encode()
            return 200, json.dumps(answer).encode()

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with run_http_server(WorkspaceHandler) as url:
        workspace = Databricks(server, url)
        yield workspace


@pytest.fixture
def databricks(mlflow_server: MLflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Databricks]:
    """A workspace that is reached by its name."""
    with run_databricks(mlflow_server) as workspace:
        monkeypatch.setenv("http_proxy", workspace.url)
        yield workspace
