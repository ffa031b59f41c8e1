"""What MLflow cannot be made to do on demand: fail and recover, redirect, and speak TLS."""

from __future__ import annotations

import base64
import pickle
import socket
import time
from threading import Thread

import certifi
import pytest
import requests

from mlflow_provider.exceptions import MLflowAPIError, MLflowUnreachableError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_servers import Answer, free_port
from task_log import exceptions_in_log

HANG_UP = Answer(0)
OVERLOADED = Answer(
    400, '{"error_code": "BAD_REQUEST", "message": "QueuePool limit of size 5 overflow 10 reached"}'
)


def search(hook: MLflowClientHook) -> dict:
    return hook.call("POST", "experiments/search", {"max_results": 1})


@pytest.fixture
def slept(monkeypatch):
    """The seconds for which somebody wanted to sleep."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


class TestRetries:
    @pytest.mark.parametrize("failure", [Answer(429), Answer(500), Answer(503), HANG_UP, OVERLOADED])
    def test_a_server_that_recovers_is_answered_for(self, false_server, airflow_connection, failure):
        server = false_server(failure, Answer(body='{"experiments": []}'))
        airflow_connection(host=server.url)

        assert search(MLflowClientHook()) == {"experiments": []}
        assert len(server.requests) == 2

    def test_a_server_that_does_not_recover_is_left_alone_after_all_retries(
        self, false_server, airflow_connection, slept
    ):
        server = false_server(Answer(503, "upstream is down"))
        airflow_connection(host=server.url, extra={"retries": 3})

        with pytest.raises(MLflowAPIError, match="503 Service Unavailable: upstream is down") as raised:
            search(MLflowClientHook())

        assert (raised.value.status_code, raised.value.error_code) == (503, None)
        assert len(server.requests) == 1 + 3

    def test_a_server_that_stays_overloaded_is_one_that_fails(self, false_server, airflow_connection, slept):
        """MLflow answers 400, as if the request were a bad one."""
        server = false_server(OVERLOADED)
        airflow_connection(host=server.url, extra={"retries": 3})

        with pytest.raises(MLflowAPIError, match="QueuePool limit") as raised:
            search(MLflowClientHook())

        assert raised.value.status_code == 503
        assert len(server.requests) == 1 + 3

    @pytest.mark.parametrize("status", [400, 401, 403, 404])
    def test_a_refusal_is_final(self, false_server, airflow_connection, status):
        server = false_server(Answer(status), Answer())
        airflow_connection(host=server.url)

        with pytest.raises(MLflowAPIError):
            search(MLflowClientHook())

        assert len(server.requests) == 1

    def test_waits_grow_and_end_within_a_minute_by_default(self, false_server, airflow_connection, slept):
        server = false_server(Answer(503))
        airflow_connection(host=server.url)

        with pytest.raises(MLflowAPIError):
            search(MLflowClientHook())

        assert slept == sorted(slept)
        assert 0 < sum(slept) <= 60

    def test_a_server_that_asks_for_an_hour_does_not_get_it(self, false_server, airflow_connection, slept):
        server = false_server(Answer(503, "", {"Retry-After": "3600"}), Answer())
        airflow_connection(host=server.url)

        search(MLflowClientHook())

        assert slept == [30]

    def test_a_server_that_is_dead_is_an_error_that_says_so(self, airflow_connection):
        port = free_port()
        airflow_connection(host="127.0.0.1", port=port, extra={"retries": 1})

        with pytest.raises(MLflowUnreachableError) as raised:
            search(MLflowClientHook())

        assert str(raised.value) == (
            f"MLflow at http://127.0.0.1:{port} (connection 'mlflow_default'): nothing listens on that port; "
            "start the server, or correct Host and Port."
        )
        assert exceptions_in_log(raised.value) == [str(raised.value)]
        assert isinstance(raised.value, requests.ConnectionError)  # what callers of 1.1.0's run() catch
        assert repr(pickle.loads(pickle.dumps(raised.value))) == repr(raised.value)

    @pytest.mark.parametrize(
        ("answer", "advice"),
        [
            (HANG_UP, "if the server uses HTTPS, start Host with https://"),
            (Answer(200, "{", {"Content-Length": "100"}), "IncompleteRead"),
            (Answer(200, "in clear text", {"Content-Encoding": "gzip"}), "failed to decode it"),
        ],
        ids=["hangs up", "dies while it answers", "answers what is not gzip"],
    )
    def test_a_server_that_gives_no_answer_is_unreachable(
        self, false_server, airflow_connection, answer, advice
    ):
        airflow_connection(host=false_server(answer).url, extra={"retries": 1})

        with pytest.raises(MLflowUnreachableError, match=advice):
            search(MLflowClientHook())

    def test_a_server_that_stops_in_the_middle_of_its_answer_is_unreachable(self, airflow_connection):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            airflow_connection(host=f"127.0.0.1:{port}", extra={"retries": 0, "timeout": 1})
            Thread(target=stop_in_the_middle_of_an_answer, args=(server,), daemon=True).start()

            with pytest.raises(MLflowUnreachableError, match="did not respond in time"):
                search(MLflowClientHook())

    @pytest.mark.parametrize(
        ("fields", "advice"),
        [
            ({"host": "my..mlflow"}, "host name cannot be resolved"),
            (
                {"host": "https://127.0.0.1", "extra": {"verify": "/nowhere.pem"}},
                "invalid path: /nowhere.pem",
            ),
        ],
    )
    def test_what_cannot_be_sent_is_unreachable(self, airflow_connection, fields, advice):
        airflow_connection(**fields)

        with pytest.raises(MLflowUnreachableError, match=advice):
            search(MLflowClientHook())

    def test_a_header_that_cannot_be_sent_is_not_shown(self, airflow_connection):
        airflow_connection(host="127.0.0.1")

        with pytest.raises(MLflowUnreachableError, match="a header contains a line break") as raised:
            MLflowClientHook().run("x", headers={"X-Key": "s3cret\n"})

        assert "s3cret" not in str(raised.value)


def stop_in_the_middle_of_an_answer(server: socket.socket) -> None:
    client, _ = server.accept()
    with client:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        while client.recv(1024):  # until the client gives up
            pass


class TestRedirect:
    """It would drop the login on its way to another server, and turn a POST into a GET."""

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_is_not_followed_but_says_what_to_enter(self, false_server, airflow_connection, status):
        elsewhere = false_server(Answer())
        location = f"{elsewhere.url}/mlflow/api/2.0/mlflow/experiments/search?key=s3cret"
        airflow_connection(host=false_server(Answer(status, "", {"Location": location})).url)

        with pytest.raises(MLflowAPIError) as raised:
            search(MLflowClientHook())

        assert raised.value.status_code == status
        assert f"redirected to {elsewhere.url}/mlflow; enter that address as Host" in str(raised.value)
        assert "s3cret" not in str(raised.value)
        assert elsewhere.requests == []

    def test_to_somewhere_else_is_no_host_to_enter(self, false_server, airflow_connection):
        server = false_server(Answer(302, "", {"Location": "/login"}))
        airflow_connection(host=server.url)

        with pytest.raises(
            MLflowAPIError, match=f"redirected to {server.url}/login, which is not MLflow's API"
        ):
            search(MLflowClientHook())

    def test_is_followed_by_run_only_if_that_is_said(self, false_server, airflow_connection):
        redirection = Answer(302, "", {"Location": "/x"})
        airflow_connection(host=false_server(redirection, redirection, Answer(body='{"a": 1}')).url)

        with pytest.raises(MLflowAPIError, match="redirected"):
            MLflowClientHook("GET").run("y")
        assert MLflowClientHook("GET").run("y", allow_redirects=True).json() == {"a": 1}


class TestLogin:
    @pytest.fixture(autouse=True)
    def _netrc(self, monkeypatch, tmp_path):
        """A login for the same host, which requests would prefer."""
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login mallory password wrong\n")
        monkeypatch.setenv("HOME", str(tmp_path))

    @pytest.mark.parametrize(
        ("login", "expected"),
        [
            ({"login": "token", "password": "t0ken"}, "Bearer t0ken"),
            ({"login": "ada", "password": "s3cret"}, f"Basic {base64.b64encode(b'ada:s3cret').decode()}"),
            ({"conn_type": "http", "login": "ada"}, f"Basic {base64.b64encode(b'ada:').decode()}"),
            ({"conn_type": "http", "password": "s3cret"}, None),
            ({}, None),
        ],
    )
    def test_is_the_connections_and_not_netrcs(self, false_server, airflow_connection, login, expected):
        server = false_server(Answer())
        airflow_connection(host=server.url, **login)
        hook = MLflowClientHook()

        search(hook)
        hook.run("x")
        hook.get_conn(headers={"X-Team": "housing"}).get(server.url)

        assert [headers.get("Authorization") for headers in server.requests] == [expected] * 3


class TestTLS:
    def test_a_certificate_that_is_not_trusted_is_refused_with_advice(
        self, false_server, airflow_connection, certificate
    ):
        server = false_server(Answer(), certificate=certificate)
        airflow_connection(host=server.url)

        works, message = MLflowClientHook().test_connection()

        assert not works
        assert "TLS certificate is not trusted; set verify in Extra to the path of its CA bundle" in message
        assert server.requests == []

    def test_https_where_the_server_speaks_http_is_called_that(self, false_server, airflow_connection):
        airflow_connection(host=false_server(Answer()).url.replace("http:", "https:"))

        works, message = MLflowClientHook().test_connection()

        assert not works
        assert "the server uses HTTP, not HTTPS; start Host with http://, or correct Port" in message

    def test_http_where_the_server_speaks_https_is_suggested(
        self, false_server, airflow_connection, certificate
    ):
        airflow_connection(
            host=false_server(Answer(), certificate=certificate).url.replace("https:", "http:")
        )

        works, message = MLflowClientHook().test_connection()

        assert not works
        assert "if the server uses HTTPS, start Host with https://" in message

    @pytest.mark.parametrize("verified", [False, True], ids=["unverified", "by its CA bundle"])
    @pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
    def test_extra_verify_wins_over_the_workers_ca_bundle(
        self, false_server, airflow_connection, certificate, monkeypatch, verified
    ):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
        server = false_server(Answer(), certificate=certificate)
        airflow_connection(host=server.url, extra={"verify": str(certificate) if verified else False})

        works, message = MLflowClientHook().test_connection()

        assert works, message
