"""Every method of the client hook, against a real server."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import mlflow
import pytest
import requests

from mlflow_provider.exceptions import MLflowAlreadyExistsError, MLflowAPIError, MLflowNotFoundError
from mlflow_provider.hooks import client
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.server import limits
from mlflow_servers import Answer, free_port
from task_log import exceptions_in_log


class TestRun:
    @pytest.mark.parametrize("slash", ["", "/"])
    def test_returns_the_response_of_a_get(self, mlflow_default, slash):
        response = MLflowClientHook(method="GET").run(
            endpoint=f"{slash}api/2.0/mlflow/experiments/get-by-name",
            request_params={"experiment_name": "Default"},
        )

        assert isinstance(response, requests.Response)
        assert response.json()["experiment"]["experiment_id"] == "0"

    def test_sends_a_json_body_by_default_and_also_returns_refusals(self, hook, name):
        created, malformed = (
            hook.run("api/2.0/mlflow/registered-models/create", request_params=params)
            for params in ({"name": name}, {})
        )

        assert (created.status_code, created.json()["registered_model"]["name"]) == (200, name)
        assert (malformed.status_code, malformed.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")

    def test_sends_json_and_params_as_requests_does(self, hook, name):
        hook.run("api/2.0/mlflow/registered-models/create", json={"name": name})

        response = MLflowClientHook("GET").run("api/2.0/mlflow/registered-models/get", params={"name": name})
        assert response.json()["registered_model"]["name"] == name

    @pytest.mark.parametrize(("method", "argument"), [("GET", "params"), ("POST", "json")])
    def test_refuses_two_bodies_or_queries(self, method, argument):
        with pytest.raises(ValueError, match=f"request_params or {argument}, not both"):
            MLflowClientHook(method).run("x", request_params={"a": 1}, **{argument: {"b": 2}})

    def test_sends_all_headers_and_passes_known_arguments_to_requests(
        self, false_server, airflow_connection, caplog, capfd
    ):
        server = false_server(Answer(302, headers={"Location": "/elsewhere"}))
        airflow_connection(conn_type="http", host=server.url, extra={"X-Team": "housing"})

        response = MLflowClientHook().run(
            "x", {"X-Task": "train"}, allow_redirects=False, extra_options={"check_response": False}, url="y"
        )

        assert response.status_code == 302
        assert (server.requests[0]["X-Team"], server.requests[0]["X-Task"]) == ("housing", "train")
        logged = caplog.text + "".join(capfd.readouterr())  # in Airflow 3.1 by logging, later by structlog
        assert "run() ignores unknown arguments: extra_options, url" in logged


class TestCall:
    def test_leaves_out_what_is_none(self, hook, name):
        created = hook.call("POST", "registered-models/create", {"name": name, "description": None})

        assert "description" not in created["registered_model"]

    @pytest.mark.parametrize(
        ("error_class", "path", "params", "status_code", "error_code"),
        [
            (MLflowNotFoundError, "runs/get", {"run_id": "0" * 32}, 404, "RESOURCE_DOES_NOT_EXIST"),
            (
                MLflowAlreadyExistsError,
                "experiments/create",
                {"name": "Default"},
                400,
                "RESOURCE_ALREADY_EXISTS",
            ),
            (MLflowAPIError, "registered-models/create", {}, 400, "INVALID_PARAMETER_VALUE"),
        ],
    )
    def test_raises_an_error_with_the_message_of_mlflow(
        self, hook, mlflow_server, error_class, path, params, status_code, error_code
    ):
        method = "GET" if path.endswith("get") else "POST"

        with pytest.raises(MLflowAPIError) as raised:
            hook.call(method, path, params)

        assert type(raised.value) is error_class
        assert (raised.value.status_code, raised.value.error_code) == (status_code, error_code)
        request = f"{method} {path} at {mlflow_server.url}, connection 'mlflow_default'"
        assert str(raised.value).endswith(f" ({request}: {status_code} {error_code}).")


class TestGetConn:
    def test_gives_a_session_that_reaches_the_server(self, hook):
        response = hook.get_conn(headers={"X-Team": "housing"}).post(
            f"{hook.base_url}/api/2.0/mlflow/experiments/search", json={"max_results": 1}
        )

        assert response.ok

    def test_keeps_its_connections_to_the_server(self, hook, caplog):
        caplog.set_level("DEBUG", logger="urllib3.connectionpool")

        for _ in range(3):
            hook.call("POST", "experiments/search", {"max_results": 1})

        assert caplog.text.count("Starting new HTTP connection") == 1


class TestTestConnection:
    def test_is_true_where_the_api_answers(self, hook, mlflow_server):
        assert hook.test_connection() == (True, f"MLflow responds at {mlflow_server.url}.")

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"host": ""}, "Field Host: empty; enter the address"),
            ({"port": free_port()}, "nothing listens on that port"),
            ({"host": "mlflow.invalid"}, "host name cannot be resolved"),
            ({"host": "my mlflow"}, "host name cannot be resolved"),
        ],
    )
    def test_is_false_where_nothing_responds(self, airflow_connection, fields, message):
        airflow_connection(**{"host": "127.0.0.1", **fields})

        works, actual = MLflowClientHook().test_connection()

        assert not works
        assert message in actual
        assert "mlflow_default" not in actual  # the form invents an ID

    def test_is_false_where_the_server_rejects_the_host_name(self, mlflow_server, airflow_connection):
        airflow_connection(host=mlflow_server.unknown_url)
        assert requests.get(f"{mlflow_server.unknown_url}/health", timeout=60).ok  # proves nothing

        works, message = MLflowClientHook().test_connection()

        assert not works
        host = mlflow_server.unknown_url.removeprefix("http://")
        assert f"the server rejects the host name {host!r}; add it to" in message

    def test_names_the_connection_of_the_artifact_store(self, airflow_connection):
        airflow_connection(host="mlflow", extra={"artifact_conn_id": "minio_default"})
        airflow_connection("minio_default", conn_type="aws", login="minio")

        _, message = MLflowClientHook().test_connection()

        assert message.startswith("Connection 'minio_default', field Password: empty;")

    def test_is_false_without_a_response_in_time(self, airflow_connection, monkeypatch):
        monkeypatch.setattr(limits, "INTERACTIVE_TIMEOUT", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never responds
            airflow_connection(host="127.0.0.1", port=silent.getsockname()[1])

            works, message = MLflowClientHook().test_connection()

        assert not works
        assert "the server did not respond in time" in message

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(404, "<h1>Not Found</h1>"),
            Answer(200, "<h1>It works!</h1>"),
            Answer(200, "[]"),
            Answer(404, '{"detail": "Not Found"}'),
            Answer(405, "Method Not Allowed"),
            Answer(400, "<html>400 Bad Request</html>"),
            Answer(301, "Moved"),
        ],
        ids=lambda answer: f"{answer.status} {answer.body}",
    )
    def test_is_false_where_something_else_answers(self, false_server, airflow_connection, answer):
        airflow_connection(host=false_server(answer).url)

        works, message = MLflowClientHook().test_connection()

        assert not works
        assert "this is not an MLflow server" in message
        assert "correct Host and Port" in message

    def test_is_false_without_a_retry_where_the_server_fails(self, false_server, airflow_connection):
        server = false_server(Answer(503, "upstream is down"), Answer())
        airflow_connection(host=server.url)

        works, message = MLflowClientHook().test_connection()

        assert not works
        assert "the server is down or overloaded" in message
        assert len(server.requests) == 1


class TestGetOrCreateExperiment:
    def test_creates_it_with_tags_and_artifact_location_and_finds_it_again(self, hook, name):
        created = hook.get_or_create_experiment(name, tags={"data": "housing"})
        in_s3 = hook.get_or_create_experiment(f"{name} in S3", artifact_location="s3://bucket/housing")

        assert hook.get_or_create_experiment(name, tags={"data": "ignored"}) == created
        by_id = {experiment["experiment_id"]: experiment for experiment in hook.search_experiments()}
        assert {"key": "data", "value": "housing"} in by_id[created]["tags"]
        assert by_id[created]["artifact_location"] == f"mlflow-artifacts:/{created}"
        assert by_id[in_s3]["artifact_location"] == "s3://bucket/housing"

    def test_creates_it_once_for_tasks_that_race(self, mlflow_default, name):
        tasks = 16
        start = Barrier(tasks)

        def task(_: int) -> str:
            hook = MLflowClientHook()
            hook.call("POST", "experiments/search", {"max_results": 1})  # connects before the race
            start.wait()
            return hook.get_or_create_experiment(name)

        with ThreadPoolExecutor(tasks) as pool:
            experiment_ids = list(pool.map(task, range(tasks)))

        assert len(experiment_ids) == tasks
        assert len(set(experiment_ids)) == 1

    def test_that_was_created_and_deleted_by_another_task_is_the_only_error_in_the_log(
        self, false_server, airflow_connection
    ):
        missing = Answer(404, '{"error_code": "RESOURCE_DOES_NOT_EXIST"}')
        exists = Answer(400, '{"error_code": "RESOURCE_ALREADY_EXISTS"}')
        airflow_connection(host=false_server(missing, exists, missing).url)

        with pytest.raises(MLflowNotFoundError) as raised:
            MLflowClientHook().get_or_create_experiment("Housing")

        assert exceptions_in_log(raised.value) == [str(raised.value)]

    def test_names_the_command_that_restores_a_deleted_one(self, hook, name):
        experiment_id = hook.get_or_create_experiment(name)
        hook.client.delete_experiment(experiment_id)

        with pytest.raises(MLflowAPIError, match=f"is deleted.*--experiment-id {experiment_id}$") as raised:
            hook.get_or_create_experiment(name)

        assert raised.value.error_code == "INVALID_STATE"


class TestRegistry:
    def test_an_existing_model_is_an_error_or_returned_unchanged(self, hook, name):
        hook.create_registered_model(name, {"data": "housing"}, "the first")

        again = hook.create_registered_model(name, {"data": "other"}, "the second", if_exists="skip")

        assert again["registered_model"]["description"] == "the first"
        assert again["registered_model"]["tags"] == [{"key": "data", "value": "housing"}]
        with pytest.raises(MLflowAlreadyExistsError, match=name):
            hook.create_registered_model(name)

    def test_a_version_is_found_by_its_number_or_alias_and_a_missing_one_is_not(self, hook, name):
        with pytest.raises(MLflowNotFoundError):
            hook.get_model_version_by_alias(name, "champion")
        hook.create_registered_model(name)
        with pytest.raises(MLflowNotFoundError, match="champion"):
            hook.get_model_version_by_alias(name, "champion")
        with pytest.raises(MLflowNotFoundError):
            hook.get_model_version(name, 1)
        hook.call("POST", "model-versions/create", {"name": name, "source": "s3://bucket/model"})
        hook.client.set_registered_model_alias(name, "champion", "1")

        result = hook.get_model_version_by_alias(name, "champion")

        assert result["model_version"]["version"] == "1"
        assert result == hook.get_model_version(name, 1)

    def test_an_alias_that_mlflow_refuses_is_not_missing(self, hook, name):
        with pytest.raises(MLflowAPIError) as raised:
            hook.get_model_version_by_alias(name, "")

        assert raised.value.error_code == "INVALID_PARAMETER_VALUE"
        assert not isinstance(raised.value, MLflowNotFoundError)

    @pytest.mark.parametrize("registered_as", ["uri", "run_uri"])
    @pytest.mark.parametrize("looked_for_as", ["uri", "run_uri"])
    def test_a_version_is_found_by_the_model_it_was_created_from(
        self, hook, name, logged_model, registered_as, looked_for_as
    ):
        with hook.tracking():
            mlflow.register_model(getattr(logged_model, registered_as), name)

        result = hook.find_model_version(name, getattr(logged_model, looked_for_as))

        assert result is not None
        assert result["model_version"]["version"] == "1"

    def test_the_newest_of_several_versions_is_found(self, hook, name):
        hook.create_registered_model(name)
        other, source = "s3://bucket/other", "s3://bucket/it's"
        for each in [
            other,
            source,
            *[other] * 9,
            source,
        ]:  # versions 2 and 12, which sort differently as text
            hook.call("POST", "model-versions/create", {"name": name, "source": each})

        result = hook.find_model_version(name, source)

        assert result is not None
        assert result["model_version"]["version"] == "12"

    def test_no_version_is_found_without_one(self, hook, name, logged_model):
        for source in (logged_model.uri, logged_model.run_uri, "s3://bucket/model"):
            assert hook.find_model_version(name, source) is None
        assert hook.search("model-versions", f"name = '{name}'") == []
        with pytest.raises(MLflowNotFoundError):
            hook.find_model_version(name, f"runs:/{'0' * 32}/model")

    def test_search_continues_from_page_to_page(self, hook, name, monkeypatch):
        monkeypatch.setattr(client, "PAGE_SIZE", 2)
        names = [f"{name}-{number}" for number in range(5)]
        for each in names:
            hook.create_registered_model(each)

        for limit in (1, 3, 5, 1000):
            models = hook.search("registered-models", f"name LIKE '{name}%'", ["name DESC"], limit)
            assert [model["name"] for model in models] == names[::-1][:limit]
