"""Logins whose packages only `make -C dev logins` installs, with stand-ins for what issues the credentials.

Google's and Azure's metadata addresses answer as documented; SageMaker's verifies each signature.
https://cloud.google.com/compute/docs/instances/verifying-instance-identity
https://learn.microsoft.com/en-us/azure/app-service/overview-managed-identity#rest-endpoint-reference
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from google.auth.compute_engine import _metadata

from dev import MissingError
from http_servers import Handler, run_http_server
from login_users import USERS
from mlflow_proxy import Proxy, Received, run_proxy
from mlflow_servers import run_mlflow_server

AUDIENCE = "https://mlflow.example.com"
SCOPE = "api://mlflow/.default"
KEYS = ("AKIDEXAMPLE", "a-secret-access-key")
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/housing"
ISSUED = jwt.encode({"aud": AUDIENCE, "exp": int(time.time()) + 3600}, "a key of at least thirty-two bytes")


@pytest.fixture
def metadata_address() -> Iterator[str]:
    """Host and port of an address that issues tokens to a machine of Google or Azure."""

    class MetadataHandler(Handler):
        def do_GET(self) -> None:  # noqa: N802
            query = parse_qs(urlsplit(self.path).query)
            is_google = self.headers["Metadata-Flavor"] == "Google"
            is_azure = self.headers["X-IDENTITY-HEADER"] == "of this machine"
            if is_google and query.get("audience") == [AUDIENCE]:
                body = ISSUED
            elif is_google and "recursive" in query:
                body = json.dumps({"email": "mlflow@example.com", "scopes": [], "aliases": []})
            elif is_azure and query.get("resource") == ["api://mlflow"]:
                token = {"access_token": ISSUED, "token_type": "Bearer", "resource": "api://mlflow"}
                body = json.dumps({**token, "expires_on": str(int(time.time()) + 3600)})
            else:
                body = ""
            self.send_response(200 if body or is_google else 400)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", "application/json" if body.startswith("{") else "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

    with run_http_server(MetadataHandler) as url:
        yield url.removeprefix("http://")


def required(package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError:
        raise MissingError(f"{package} is not installed. Run `make -C dev logins`.") from None


def is_signed(received: Received) -> bool:
    """Sign a request with the same keys, and compare."""
    authorization = received.headers["Authorization"] or ""
    if received.headers["x-mlflow-sm-tracking-server-arn"] != ARN or "SignedHeaders=" not in authorization:
        return False
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: received.headers[name] for name in signed}
    url = f"http://{received.headers['Host']}{received.path}"
    request = AWSRequest(received.method, url, headers=headers, data=received.body)
    request.context["timestamp"] = received.headers["X-Amz-Date"]
    signer = SigV4Auth(Credentials(*KEYS), "sagemaker-mlflow", "eu-west-1")
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    return authorization.endswith(f"Signature={signer.signature(to_sign, request)}")


def google(proxy: Proxy, metadata_address: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("GCE_METADATA_HOST", metadata_address)
    monkeypatch.setenv("GCE_METADATA_IP", metadata_address)
    importlib.reload(_metadata)  # which reads the variables when it is imported
    proxy.token = ISSUED
    return {"host": proxy.url, "extra": {"auth": "google", "audience": AUDIENCE}}


def azure(proxy: Proxy, metadata_address: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    required("azure.identity")
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://{metadata_address}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "of this machine")
    proxy.token = ISSUED
    return {"host": proxy.url, "extra": {"auth": "azure", "scope": SCOPE}}


def sagemaker(proxy: Proxy, metadata_address: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    required("sagemaker_mlflow")
    monkeypatch.setenv("SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT", proxy.url)
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), KEYS, strict=True):
        monkeypatch.setenv(name, value)
    proxy.accepts = is_signed
    return {"host": ARN}


def kubernetes(proxy: Proxy, metadata_address: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """MLflow's own provider, with the token of a kubeconfig instead of a pod's."""
    required("kubernetes")
    proxy.token = ISSUED
    return {"host": proxy.url, "extra": {"auth": "kubernetes"}}


@pytest.fixture(params=[google, azure, sagemaker, kubernetes], ids=lambda method: method.__name__)
def gate(
    request, mlflow_server, airflow_connection, metadata_address, monkeypatch, tmp_path
) -> Iterator[Proxy]:
    """A server that accepts one login method, which ``mlflow_default`` has."""
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {"token": ISSUED}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with ExitStack() as servers:
        if request.param is sagemaker:  # whose clients write to S3 themselves; here to a folder
            options = ("--no-serve-artifacts", f"--default-artifact-root={tmp_path}/artifacts")
            mlflow_server = servers.enter_context(run_mlflow_server(tmp_path, None, *options))
        proxy = servers.enter_context(run_proxy(mlflow_server))
        airflow_connection(**request.param(proxy, metadata_address, monkeypatch))
        yield proxy


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
def test_a_login_works_everywhere(gate: Proxy, user: Callable[[str], None]) -> None:
    user(f"logins-{time.time_ns()}")
