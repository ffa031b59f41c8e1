"""Each login method works for each user of a server that refuses everything else."""

from __future__ import annotations

import importlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import mlflow.tracking.request_auth.registry
import mlflow.tracking.request_header.registry
import pytest

from http_servers import Handler, run_http_server
from login_users import USERS
from mlflow_provider import task_run
from mlflow_provider.exceptions import MLflowLoginError, MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.server import request_headers
from mlflow_proxy import Proxy, Received, run_proxy
from tries import Try

TOKEN = "token-in-a-file-81c2"
# A company's own package, with a request-auth provider and a request-header provider.
COMPANY = """\
class Auth:
    def __call__(self, request):
        request.headers["X-Company"] = "key-44d1"
        return request

class AuthProvider:
    get_name = lambda self: "company"
    get_auth = lambda self: Auth()

class Headers:
    in_context = lambda self: True
    request_headers = lambda self: {"X-Team": "housing"}
"""
ENTRY_POINTS = """\
[mlflow.request_auth_provider]
company = company:AuthProvider
[mlflow.request_header_provider]
company = company:Headers
"""
CHILD_THAT_LOGS = """\
import sys, time, mlflow
with mlflow.start_run():
    for step in range(4):
        mlflow.log_metric("rmse", 0.5, step)
        time.sleep(1)
assert "airflow" not in sys.modules  # which takes a second to import
"""
OURS = ["GET experiments/get-by-name", "POST runs/create", "POST runs/update"]


@pytest.fixture
def company(tmp_path, monkeypatch) -> Iterator[None]:
    """A company's package, installed in this process and in those that it starts."""
    metadata = tmp_path / "company-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: company\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "company.py").write_text(COMPANY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    _find_plugins()
    yield
    monkeypatch.undo()
    _find_plugins()


def _find_plugins() -> None:
    request_headers.plugins.cache_clear()
    importlib.reload(mlflow.tracking.request_auth.registry)
    importlib.reload(mlflow.tracking.request_header.registry)


def _has(name: str, value: str) -> Callable[[Received], bool]:
    return lambda received: received.headers[name] == value


METHODS: dict[str, Callable[..., Any]] = {}


def method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add a login method: a function that returns the fields of its connection."""
    METHODS[function.__name__.strip("_")] = function
    return function


@method
def _password(request: Any, proxy: Proxy) -> dict[str, Any]:
    proxy.accepts = _has("Authorization", "Basic YWRhOnMzY3JldA==")
    return {"login": "ada", "password": "s3cret"}


@method
def _token(request: Any, proxy: Proxy) -> dict[str, Any]:
    proxy.token = TOKEN
    return {"login": "token", "password": TOKEN}


@method
def _token_file(request: Any, proxy: Proxy) -> dict[str, Any]:
    proxy.token = TOKEN
    file = request.getfixturevalue("tmp_path") / "token"
    file.write_text(f"{TOKEN}\n")
    return {"extra": {"token_file": str(file)}}


@method
def _plugin(request: Any, proxy: Proxy) -> dict[str, Any]:
    request.getfixturevalue("company")
    has_key, has_team = _has("X-Company", "key-44d1"), _has("X-Team", "housing")
    proxy.accepts = lambda received: has_key(received) and has_team(received)
    return {"extra": {"auth": "company"}}


@method
def _worker(request: Any, proxy: Proxy) -> dict[str, Any]:
    request.getfixturevalue("monkeypatch").setenv("MLFLOW_TRACKING_AUTH", "company")
    return _plugin(request, proxy) | {"extra": {}}


@method
def _oauth(request: Any, proxy: Proxy) -> dict[str, Any]:
    provider = request.getfixturevalue("identity_provider")
    proxy.accepts = provider.accepts
    return provider.connection


@method
def _client_cert(request: Any, proxy: Proxy) -> dict[str, Any]:
    path = str(request.getfixturevalue("certificate"))
    return {"extra": {"client_cert": path, "verify": path}}


@pytest.fixture(params=METHODS)
def gate(request, mlflow_server, airflow_connection) -> Iterator[Proxy]:
    """A server that accepts one login method, which ``mlflow_default`` has."""
    certificate = request.getfixturevalue("certificate") if request.param == "client_cert" else None
    with run_proxy(mlflow_server, certificate=certificate) as proxy:
        fields = METHODS[request.param](request, proxy)
        airflow_connection(host=proxy.url, **fields)
        yield proxy


@pytest.fixture
def oauth_gate(request, mlflow_server, airflow_connection) -> Iterator[Proxy]:
    """A server that accepts tokens of the identity provider."""
    with run_proxy(mlflow_server) as proxy:
        airflow_connection(host=proxy.url, **_oauth(request, proxy))
        yield proxy


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
def test_a_login_works_everywhere(gate, user, name, capfd, caplog):
    user(name)

    everything = caplog.text + "".join(capfd.readouterr())
    for secret in ("s3cret", TOKEN, "issued-"):
        assert secret not in everything


def test_a_task_costs_no_request_besides_one_for_a_token(oauth_gate, identity_provider, name):
    MLflowClientHook().get_or_create_experiment(name)
    oauth_gate.requests.clear()

    first_try = Try(name, known=SimpleNamespace(next_method=None, task_reschedule_count=0))
    with task_run(context=first_try.context, experiment=name):
        pass

    assert oauth_gate.requests == OURS
    assert len(identity_provider.requests) == 1


def test_tokens_that_expire_while_a_task_and_its_program_run_lose_nothing(
    oauth_gate, identity_provider, name
):
    identity_provider.lifetime = 1
    with task_run(context=Try(name).context, experiment=name):
        program = subprocess.Popen([sys.executable, "-c", CHILD_THAT_LOGS], stderr=subprocess.PIPE, text=True)
        for step in range(4):
            mlflow.log_metric("rmse", 0.5, step)
            time.sleep(1)
        _, errors = program.communicate(timeout=300)

    assert program.returncode == 0, errors
    hook = MLflowClientHook()
    [run] = hook.search_runs([hook.get_or_create_experiment(name)])
    history = hook.client.get_metric_history(run["info"]["run_id"], "rmse")
    assert sorted(metric.step for metric in history) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(identity_provider.requests) > 6


def test_a_token_that_the_server_no_longer_accepts_is_replaced_once(oauth_gate, identity_provider):
    hook = MLflowClientHook()
    with hook.tracking() as client:
        identity_provider.issued.clear()
        hook.search_experiments(max_results=1)
        identity_provider.issued.clear()
        client.search_experiments(max_results=1)

    assert len(identity_provider.requests) == 3


def test_an_identity_provider_that_is_down_for_a_moment_fails_no_request(
    oauth_gate, identity_provider, caplog
):
    identity_provider.error = (503, "busy")
    threading.Timer(1, lambda: setattr(identity_provider, "error", None)).start()

    MLflowClientHook().search_experiments(max_results=1)

    assert "503 Service Unavailable" in caplog.text


def test_a_client_secret_that_changes_is_read_again(oauth_gate, identity_provider, airflow_connection):
    fields = {"host": oauth_gate.url, **identity_provider.connection}
    airflow_connection(**fields | {"password": "an old one"})
    hook = MLflowClientHook()
    assert str(hook.connection.login)
    airflow_connection(**fields | {"password": "another old one"})
    with pytest.raises(MLflowLoginError, match="refuses a token"):
        hook.search_experiments(max_results=1)
    assert len(identity_provider.requests) == 2
    airflow_connection(**fields)

    hook.search_experiments(max_results=1)


@pytest.mark.parametrize("fault", [OSError("no ticket"), 60])
def test_a_provider_that_fails_or_hangs_is_named_within_the_timeout(
    company, airflow_connection, mlflow_server, monkeypatch, fault
):
    def get_auth(provider: Any) -> None:
        if isinstance(fault, OSError):
            raise fault
        time.sleep(fault)

    monkeypatch.setattr(sys.modules["company"].AuthProvider, "get_auth", get_auth)
    airflow_connection(host=mlflow_server.url, extra={"auth": "company", "timeout": 1})
    started = time.monotonic()

    with pytest.raises(MLflowLoginError, match=r"auth 'company' has no login .*(no ticket|within 1 seconds)"):
        MLflowClientHook().search_experiments()

    assert time.monotonic() - started < 30  # far from 60 s, also on a busy machine


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "No such file"), ("", "empty"), ("two words", "more than one word")]
)
def test_a_token_file_that_is_none_is_named(airflow_connection, mlflow_server, tmp_path, content, problem):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    airflow_connection(host=mlflow_server.url, extra={"token_file": str(file)})

    with pytest.raises(MLflowLoginError, match=f"token_file {file}: {problem}"):
        MLflowClientHook().search_experiments()


def test_a_token_address_that_hangs_is_left_within_the_timeout(
    identity_provider, airflow_connection, mlflow_server
):
    identity_provider.hangs = True
    fields = identity_provider.connection
    fields["extra"] |= {"timeout": 1, "retry_timeout": 0}
    airflow_connection(host=mlflow_server.url, **fields)

    with pytest.raises(MLflowProviderError, match="did not respond"):
        MLflowClientHook().search_experiments()


@pytest.fixture
def tls_proxy(certificate) -> Iterator[tuple[str, list[str]]]:
    """An HTTP proxy that itself uses TLS and forwards TLS connections: its address, and their targets."""
    targets: list[str] = []

    class Tunnel(Handler):
        def do_CONNECT(self) -> None:  # noqa: N802
            targets.append(self.path)
            host, port = self.path.split(":")
            with socket.create_connection((host, int(port))) as target:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=pump, args=(target, self.connection), daemon=True)
                back.start()
                pump(self.connection, target)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with run_http_server(Tunnel, context=context) as url:
        yield url, targets


def test_requests_pass_a_proxy_with_a_certificate_of_its_own(
    mlflow_server, airflow_connection, certificate, tls_proxy, monkeypatch
):
    url, targets = tls_proxy
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, mlflow_server.url.removeprefix("http://"))
    monkeypatch.setenv("HTTPS_PROXY", url)
    path = str(certificate)
    with run_proxy(mlflow_server, certificate=certificate) as gate:
        airflow_connection(host=gate.url, extra={"client_cert": path, "verify": path})
        hook = MLflowClientHook()
        hook.search_experiments(max_results=1)
        hook.client.search_experiments(max_results=1)

        assert len(gate.requests) == 2
        assert targets == [gate.url.removeprefix("https://")] * 2
