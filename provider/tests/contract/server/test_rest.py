"""Failures, redirects and TLS, which a real MLflow server does not produce on demand."""

from __future__ import annotations

import base64
import gzip
import pickle
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate

import certifi
import pytest
import requests
from mlflow import MlflowException

from mlflow_provider.exceptions import MLflowAPIError, MLflowProviderError, MLflowUnreachableError
from mlflow_provider.hooks import client
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.server import findings, session
from mlflow_provider.server.deadline import run_with_timeout
from mlflow_provider.server.limits import Limits
from mlflow_proxy import wait_until
from mlflow_servers import Answer, free_port
from task_log import exceptions_in_log

HANG_UP = Answer(0)
TWO_LENGTHS = Answer(200, "{}", {"Content-Length": "2, 3"})
FEATURE_DISABLED = Answer(500, '{"error_code": "FEATURE_DISABLED", "message": "Scorers are disabled."}')
ENDLESS = Answer(200, '{"experiments": [], "next_page_token": "1"}')
OVERLOADED = Answer(
    400, '{"error_code": "BAD_REQUEST", "message": "QueuePool limit of size 5 overflow 10 reached"}'
)


def search(hook: MLflowClientHook) -> dict:
    return hook.call("POST", "experiments/search", {"max_results": 1})


@pytest.fixture
def slept(monkeypatch):
    """The waits between retries in seconds, which the tests skip; nothing else takes time."""
    seconds, start = [], time.monotonic()
    monkeypatch.setattr(time, "sleep", seconds.append)
    monkeypatch.setattr(time, "monotonic", lambda: start + sum(seconds))
    return seconds


class TestRetries:
    @pytest.mark.parametrize(
        "failure", [Answer(429), Answer(500), Answer(503), HANG_UP, OVERLOADED, TWO_LENGTHS]
    )
    def test_a_request_to_a_server_that_recovers_succeeds(
        self, false_server, airflow_connection, failure, slept
    ):
        server = false_server(failure, Answer(body='{"experiments": []}'))
        airflow_connection(host=server.url)

        assert search(MLflowClientHook()) == {"experiments": []}
        assert len(server.requests) == 2

    @pytest.mark.parametrize(
        ("failure", "message", "error_code"),
        [
            (Answer(503, "<html>Bad"), "the server is down or overloaded", None),
            (OVERLOADED, "QueuePool limit", "BAD_REQUEST"),  # which MLflow sends with status 400
        ],
    )
    def test_a_server_that_does_not_recover_gets_the_time_of_the_connection(
        self, false_server, airflow_connection, slept, failure, message, error_code
    ):
        server = false_server(failure)
        airflow_connection(host=server.url, extra={"retry_timeout": 30})

        with pytest.raises(MLflowAPIError, match=message) as raised:
            search(MLflowClientHook())

        assert (raised.value.status_code, raised.value.error_code) == (503, error_code)
        assert len(server.requests) == 1 + len(slept)
        assert sum(slept) == pytest.approx(30)

    @pytest.mark.parametrize("refusal", [*map(Answer, (400, 401, 403, 404)), FEATURE_DISABLED])
    def test_a_refusal_is_final(self, false_server, airflow_connection, refusal):
        server = false_server(refusal, Answer())
        airflow_connection(host=server.url)

        with pytest.raises(MLflowAPIError) as raised:
            search(MLflowClientHook())

        assert len(server.requests) == 1
        assert not raised.value.is_transient

    @pytest.mark.parametrize(
        ("retry_after", "at_least"),
        [
            *[(value, 0) for value in ("", "0", "-5", "banana", "inf", "nan", "1e400", "²")],
            *[(f"Mon, 01 Jan {year} 00:00:00 GMT", 0) for year in ("0001", "2001")],
            ("1", 1),
            ("1.5", 1.5),
            ("20", 20),
            ("3600", 3600),
            ("Fri, 01 Jan 2100 00:00:00 GMT", 3600),
        ],
    )
    def test_waits_are_never_shorter_than_a_server_asks_and_last_a_minute_by_default(
        self, false_server, airflow_connection, slept, retry_after, at_least
    ):
        airflow_connection(host=false_server(Answer(503, "", {"Retry-After": retry_after})).url)

        with pytest.raises(MLflowAPIError):
            search(MLflowClientHook())

        assert all(wait > at_least for wait in slept[:-1])
        assert (len(slept) == 1) == (at_least > 60)
        assert sum(slept) == pytest.approx(60)

    def test_a_server_that_limits_the_rate_of_requests_gets_four_minutes(
        self, false_server, airflow_connection, slept
    ):
        airflow_connection(host=false_server(Answer(429, "<html>Slow down")).url)

        with pytest.raises(MLflowAPIError, match="too many requests; run fewer tasks"):
            search(MLflowClientHook())

        assert sum(slept) == pytest.approx(240)

    @pytest.mark.parametrize("retry_after", ["1", "banana"])
    def test_the_mlflow_package_is_as_patient(self, false_server, airflow_connection, slept, retry_after):
        airflow_connection(host=false_server(Answer(503, "", {"Retry-After": retry_after})).url)

        with MLflowClientHook().tracking() as mlflow_client, pytest.raises(MlflowException):
            mlflow_client.search_experiments()

        assert sum(slept) > 60

    def test_each_wait_is_one_line_in_the_log(self, false_server, airflow_connection, slept, caplog):
        server = false_server(Answer(503), Answer())
        airflow_connection(host=server.url)

        search(MLflowClientHook())

        assert caplog.messages == [
            f"503 Service Unavailable. Retrying in {slept[0]:.0f} s (MLflow at {server.url})."
        ]

    def test_a_file_is_sent_again_from_its_beginning(self, false_server, airflow_connection, slept, tmp_path):
        server = false_server(Answer(503), Answer())
        airflow_connection(host=server.url)
        (tmp_path / "file").write_bytes(b"a" * 100)

        with (tmp_path / "file").open("rb") as file:
            MLflowClientHook("PUT").run("x", data=file)

        assert [headers["Content-Length"] for headers in server.requests] == ["100", "100"]

    @pytest.mark.parametrize(("failure", "sent"), [(Answer(429), 2), (Answer(503), 1), (HANG_UP, 1)])
    def test_a_request_that_must_not_be_repeated_is_sent_again_only_if_the_server_has_not_accepted_it(
        self, false_server, airflow_connection, slept, failure, sent
    ):
        server = false_server(failure, Answer())
        airflow_connection(host=server.url)
        hook = MLflowClientHook().with_limits(Limits(timeout=5, retry_timeout=5, repeat=False))

        with suppress(MLflowProviderError):
            search(hook)

        assert len(server.requests) == sent

    def test_a_server_that_is_down_is_one_error_with_its_finding(self, airflow_connection):
        port = free_port()
        airflow_connection(host="127.0.0.1", port=port, extra={"retry_timeout": 0})

        with pytest.raises(MLflowUnreachableError) as raised:
            search(MLflowClientHook())

        place = f"MLflow at http://127.0.0.1:{port}, connection 'mlflow_default'"
        assert raised.value.finding == findings.CONNECTION_REFUSED.at(place)
        assert exceptions_in_log(raised.value) == [f"{raised.value.finding}."]
        assert isinstance(raised.value, requests.ConnectionError)  # which callers of 1.1.0's run() catch
        assert repr(pickle.loads(pickle.dumps(raised.value))) == repr(raised.value)

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (
                HANG_UP,
                "connection closed without a response; if the server uses HTTPS, start Host with https://",
            ),
            (Answer(200, "{", {"Content-Length": "100"}), "IncompleteRead"),
            (Answer(200, "in clear text", {"Content-Encoding": "gzip"}), "failed to decode it"),
        ],
        ids=["closes the connection", "dies while it responds", "sends no gzip"],
    )
    def test_a_server_without_a_complete_response_is_unreachable(
        self, false_server, airflow_connection, answer, message
    ):
        airflow_connection(host=false_server(answer).url, extra={"retry_timeout": 0})

        with pytest.raises(MLflowUnreachableError, match=message):
            search(MLflowClientHook())

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            *[
                ({"host": host, "extra": {"retries": 0}}, "host name cannot be resolved")
                for host in ("my..mlflow", "my_mlflow.invalid", "mlflöw.invalid", "🏠.invalid")
            ],
            (
                {"host": "https://127.0.0.1", "extra": {"verify": "/nowhere.pem"}},
                "invalid path: /nowhere.pem",
            ),
        ],
    )
    def test_a_server_to_which_nothing_can_be_sent_is_unreachable(self, airflow_connection, fields, message):
        airflow_connection(**fields)

        with pytest.raises(MLflowUnreachableError, match=message):
            search(MLflowClientHook())

    def test_a_header_that_cannot_be_sent_is_not_shown(self, airflow_connection):
        airflow_connection(host="127.0.0.1")

        with pytest.raises(MLflowUnreachableError, match="a header contains a line break") as raised:
            MLflowClientHook().run("x", headers={"X-Key": "s3cret\n"})

        assert "s3cret" not in str(raised.value)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n"
BOMB = gzip.compress(b" " * 40_000_000)
GZIP = b"Content-Encoding: gzip\r\n\r\n"


def slowly(*parts: bytes) -> Iterator[bytes]:
    """Yield the parts, and the last one for ever."""
    yield from parts
    while not threading.Event().wait(0.05):
        yield parts[-1]


class TestLimits:
    """No exchange takes longer than its timeout, or more memory than the largest response."""

    @pytest.fixture
    def endless_server(self, airflow_connection):
        """A function that starts a server which sends these parts, for a connection with a short timeout."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            host = f"127.0.0.1:{server.getsockname()[1]}"
            airflow_connection(host=host, extra={"retry_timeout": 0, "timeout": 1})

            def send(parts: Iterable[bytes]) -> None:
                client, _ = server.accept()
                with client, suppress(OSError):
                    for part in parts:
                        client.sendall(part)
                    while client.recv(1024):  # until the client gives up
                        pass

            yield lambda parts: threading.Thread(target=send, args=(parts,), daemon=True).start()

    @pytest.mark.parametrize(
        "parts",
        [
            (HEAD, b"\r\n{"),
            slowly(HEAD, b"X"),
            slowly(HEAD, b"\r\n", b" "),
            slowly(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        ],
        ids=["stops", "trickles its headers", "trickles its body", "trickles chunks"],
    )
    def test_a_response_that_is_not_complete_in_time_ends_the_request(self, endless_server, parts):
        endless_server(parts)

        with pytest.raises(MLflowUnreachableError, match="did not respond in time"):
            search(MLflowClientHook())

    @pytest.mark.parametrize(
        "parts",
        [
            (HEAD, b"\r\n", *[b" " * 100_000] * 100),
            (HEAD, GZIP, BOMB),
            (b"HTTP/1.1 503 Busy\r\n", GZIP, BOMB),
        ],
        ids=["endless", "gzip bomb", "failure"],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_a_response_that_is_too_large_ends_the_request(self, endless_server, parts, stream, monkeypatch):
        monkeypatch.setattr(session, "MAX_RESPONSE_BYTES", 5_000_000)
        endless_server(parts)

        if stream and HEAD in parts:
            chunks = MLflowClientHook().run("x", stream=True).iter_content(10_000)
            assert any(size > 6_000_000 for size in accumulate(map(len, chunks)))
            return
        with pytest.raises(MLflowUnreachableError, match="the response is larger than 64 MB"):
            MLflowClientHook().run("x", stream=stream)

    def test_a_search_that_never_ends_is_an_error(self, false_server, airflow_connection, monkeypatch):
        monkeypatch.setattr(client, "MAX_PAGES", 3)
        server = false_server(ENDLESS)
        airflow_connection(host=server.url)

        with pytest.raises(MLflowAPIError, match="more than 3 pages"):
            MLflowClientHook().search_experiments()

        assert len(server.requests) == 3

    @pytest.mark.parametrize("is_slow", [False, True])
    def test_nothing_is_left_of_abandoned_work(
        self, endless_server, false_server, airflow_connection, is_slow
    ):
        if is_slow:
            endless_server(slowly(HEAD, b"\r\n", b" "))
        else:
            airflow_connection(host=false_server(ENDLESS).url)
        hook = MLflowClientHook().with_limits(Limits(timeout=60, retry_timeout=60))

        with pytest.raises(MLflowUnreachableError):
            run_with_timeout(hook.search_experiments, 0.5)

        wait_until("its thread has ended", lambda: "mlflow-requests" not in str(threading.enumerate()))


class TestRedirect:
    """If it were followed, the login would be lost and a POST would become a GET."""

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_is_not_followed_but_names_the_host_to_enter(self, false_server, airflow_connection, status):
        elsewhere = false_server(Answer())
        location = f"{elsewhere.url}/mlflow/api/2.0/mlflow/experiments/search?key=s3cret"
        airflow_connection(host=false_server(Answer(status, "", {"Location": location})).url)

        with pytest.raises(MLflowAPIError) as raised:
            search(MLflowClientHook())

        assert raised.value.status_code == status
        assert f"redirected to {elsewhere.url}/mlflow; enter that address as Host (" in str(raised.value)
        assert "s3cret" not in str(raised.value)
        assert elsewhere.requests == []

    def test_to_another_page_names_no_host_to_enter(self, false_server, airflow_connection):
        server = false_server(Answer(302, "", {"Location": "/home"}))
        airflow_connection(host=server.url)

        with pytest.raises(MLflowAPIError, match=f"{server.url}/home, which is not MLflow's API"):
            search(MLflowClientHook())

    def test_is_followed_by_run_only_on_request(self, false_server, airflow_connection):
        redirection = Answer(302, "", {"Location": "/x"})
        airflow_connection(host=false_server(redirection, redirection, Answer(body='{"a": 1}')).url)

        with pytest.raises(MLflowAPIError, match="redirected"):
            MLflowClientHook("GET").run("y")
        assert MLflowClientHook("GET").run("y", allow_redirects=True).json() == {"a": 1}

    @pytest.mark.parametrize("location", ["http://ada:pw@[", "http://ada:pw@x:y/\xff"])
    def test_to_an_invalid_address_is_an_error_without_its_login(
        self, false_server, airflow_connection, location
    ):
        airflow_connection(host=false_server(*[Answer(302, "", {"Location": location})] * 2).url)

        for arguments in ({}, {"allow_redirects": True}):
            with pytest.raises(MLflowProviderError, match="redirect") as raised:
                MLflowClientHook("GET").run("y", **arguments)
            assert "pw" not in str(raised.value)


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
    @pytest.mark.parametrize(
        ("is_https", "scheme", "finding"),
        [
            (True, "https:", findings.CERTIFICATE_NOT_TRUSTED),
            (False, "https:", findings.NOT_HTTPS),
            (True, "http:", findings.CONNECTION_CLOSED),  # whose fix is to use https
        ],
    )
    def test_a_certificate_or_scheme_that_is_wrong_is_reported(
        self, false_server, airflow_connection, slept, certificate, is_https, scheme, finding
    ):
        server = false_server(Answer(), certificate=certificate if is_https else None)
        airflow_connection(host=f"{scheme}{server.url.partition(':')[2]}")

        works, message = MLflowClientHook().test_connection()

        assert not works
        assert str(finding) in message
        assert server.requests == []

        with pytest.raises(MLflowUnreachableError) as raised:
            search(MLflowClientHook())
        assert raised.value.is_transient == bool(slept) == (finding is findings.CONNECTION_CLOSED)

    def test_a_certificate_for_another_host_is_reported(self, false_server, airflow_connection, certificate):
        server = false_server(Answer(), certificate=certificate)
        host = server.url.replace("127.0.0.1", "localhost")
        airflow_connection(host=host, extra={"verify": str(certificate)})

        with pytest.raises(MLflowUnreachableError, match="is for another host name; enter as Host") as raised:
            search(MLflowClientHook())

        assert not raised.value.is_transient

    @pytest.mark.parametrize("verified", [False, True], ids=["unverified", "by its CA bundle"])
    @pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
    def test_verify_in_extra_overrides_the_workers_ca_bundle(
        self, false_server, airflow_connection, certificate, monkeypatch, verified
    ):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
        server = false_server(Answer(), certificate=certificate)
        airflow_connection(host=server.url, extra={"verify": str(certificate) if verified else False})

        works, message = MLflowClientHook().test_connection()

        assert works, message
