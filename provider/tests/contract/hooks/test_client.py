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

    def test_sends_a_json_body_by_default(self, hook, name):
        response = hook.run("api/2.0/mlflow/registered-models/create", request_params={"name": name})

        assert (response.status_code, response.json()["registered_model"]["name"]) == (200, name)

    def test_returns_the_response_also_when_the_server_refuses(self, hook, mlflow_default, name):
        missing = MLflowClientHook("GET").run(
            "api/2.0/mlflow/registered-models/get", request_params={"name": name}
        )
        malformed = hook.run("api/2.0/mlflow/registered-models/create", request_params={})

        assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
        assert (malformed.status_code, malformed.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")

    def test_sends_headers_and_passes_the_rest_to_requests(self, false_server, airflow_connection):
        server = false_server(Answer(302, headers={"Location": "/elsewhere"}))
        airflow_connection(host=server.url)

        response = MLflowClientHook().run("x", headers={"X-Team": "housing"}, allow_redirects=False)

        assert response.status_code == 302
        assert server.requests[0]["X-Team"] == "housing"

    def test_ignores_keywords_that_requests_does_not_know_as_1_1_0_did(
        self, false_server, airflow_connection, caplog, capfd
    ):
        airflow_connection(host=false_server(Answer()).url)

        response = MLflowClientHook().run("x", extra_options={"check_response": False}, url="y", timeout=5)

        assert response.ok
        logged = caplog.text + "".join(capfd.readouterr())  # in Airflow 3.1 by logging, later by structlog
        assert "run() ignores unknown arguments: extra_options, url" in logged

    def test_sends_the_extra_of_an_http_connection_as_headers(self, false_server, airflow_connection):
        server = false_server(Answer())
        airflow_connection(conn_type="http", host=server.url, extra={"X-Team": "housing"})

        MLflowClientHook().run("x")

        assert server.requests[0]["X-Team"] == "housing"


class TestCall:
    def test_returns_what_mlflow_answers(self, hook, logged_model):
        run = hook.get_run(logged_model.run_id)

        assert run["info"]["status"] == "FINISHED"

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
    def test_raises_what_mlflow_said(
        self, hook, mlflow_server, error_class, path, params, status_code, error_code
    ):
        method = "GET" if path.endswith("get") else "POST"

        with pytest.raises(MLflowAPIError) as raised:
            hook.call(method, path, params)

        assert type(raised.value) is error_class
        assert (raised.value.status_code, raised.value.error_code) == (status_code, error_code)
        request = f"{method} {path} at {mlflow_server.url} (connection 'mlflow_default')"
        assert str(raised.value).startswith(f"{request}: {status_code} {error_code}: ")


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

    def test_is_false_where_the_server_refuses_the_host_name(self, mlflow_server, airflow_connection):
        airflow_connection(host=mlflow_server.unknown_url)
        # What a health check would have said.
        assert requests.get(f"{mlflow_server.unknown_url}/health", timeout=10).ok

        works, message = MLflowClientHook().test_connection()

        assert not works
        host = mlflow_server.unknown_url.removeprefix("http://")
        assert "403" in message
        assert f"{host!r}; add it to the server's --allowed-hosts" in message

    @pytest.mark.parametrize(
        ("fields", "advice"),
        [
            ({"port": free_port()}, "nothing listens on that port"),
            ({"host": "mlflow.invalid"}, "host name cannot be resolved"),
            ({"host": "my mlflow"}, "host name cannot be resolved"),
        ],
    )
    def test_is_false_where_nothing_answers(self, airflow_connection, fields, advice):
        airflow_connection(**{"host": "127.0.0.1", **fields})

        works, message = MLflowClientHook().test_connection()

        assert not works
        assert advice in message

    @pytest.mark.parametrize("host", ["", "127.0.0.1:1", "mlflow.invalid"])
    def test_names_no_connection_as_the_form_makes_an_id_up(self, airflow_connection, host):
        airflow_connection("random_id", host=host)

        _, message = MLflowClientHook(mlflow_conn_id="random_id").test_connection()

        assert message
        assert "random_id" not in message

    def test_names_the_connection_of_the_artifact_store(self, airflow_connection):
        airflow_connection(host="mlflow", extra={"artifact_conn_id": "minio_default"})
        airflow_connection("minio_default", conn_type="aws", login="minio")

        _, message = MLflowClientHook().test_connection()

        assert message.startswith("Connection 'minio_default', field Password: empty;")

    def test_is_false_where_no_answer_comes_in_time(self, airflow_connection, monkeypatch):
        monkeypatch.setattr(limits, "INTERACTIVE_TIMEOUT", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
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

    def test_is_false_at_once_where_the_server_fails(self, false_server, airflow_connection):
        server = false_server(Answer(503, "upstream is down"), Answer())
        airflow_connection(host=server.url)

        works, message = MLflowClientHook().test_connection()

        assert not works
        assert "503 Service Unavailable: upstream is down" in message
        assert len(server.requests) == 1


class TestGetOrCreateExperiment:
    def test_creates_it_with_its_tags_and_finds_it_again(self, hook, name):
        created = hook.get_or_create_experiment(name, tags={"data": "housing"})

        assert hook.get_or_create_experiment(name, tags={"data": "ignored"}) == created
        experiment = hook.call("GET", "experiments/get", {"experiment_id": created})["experiment"]
        assert {"key": "data", "value": "housing"} in experiment["tags"]
        assert experiment["artifact_location"] == f"mlflow-artifacts:/{created}"

    def test_gives_it_the_artifact_location(self, hook, name):
        experiment_id = hook.get_or_create_experiment(name, artifact_location="s3://bucket/housing")

        experiment = hook.call("GET", "experiments/get", {"experiment_id": experiment_id})["experiment"]
        assert experiment["artifact_location"] == "s3://bucket/housing"

    def test_creates_it_once_for_tasks_that_race(self, mlflow_default, name):
        tasks = 16
        start = Barrier(tasks)

        def task(_: int) -> str:
            hook = MLflowClientHook()
            hook.call("POST", "experiments/search", {"max_results": 1})  # so that the race is for the create
            start.wait()
            return hook.get_or_create_experiment(name)

        with ThreadPoolExecutor(tasks) as pool:
            experiment_ids = list(pool.map(task, range(tasks)))

        assert len(experiment_ids) == tasks
        assert len(set(experiment_ids)) == 1

    def test_that_another_task_created_and_deleted_meanwhile_is_the_only_error_in_the_log(
        self, false_server, airflow_connection
    ):
        missing = Answer(404, '{"error_code": "RESOURCE_DOES_NOT_EXIST"}')
        exists = Answer(400, '{"error_code": "RESOURCE_ALREADY_EXISTS"}')
        airflow_connection(host=false_server(missing, exists, missing).url)

        with pytest.raises(MLflowNotFoundError) as raised:
            MLflowClientHook().get_or_create_experiment("Housing")

        assert exceptions_in_log(raised.value) == [str(raised.value)]

    def test_says_what_to_do_about_a_deleted_one(self, hook, name):
        experiment_id = hook.get_or_create_experiment(name)
        hook.client.delete_experiment(experiment_id)

        with pytest.raises(MLflowAPIError, match=f"is deleted.*--experiment-id {experiment_id}") as raised:
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

    def test_a_version_is_found_by_its_alias(self, hook, name):
        hook.create_registered_model(name)
        hook.call("POST", "model-versions/create", {"name": name, "source": "s3://bucket/model"})
        hook.client.set_registered_model_alias(name, "champion", "1")

        assert hook.get_model_version_by_alias(name, "champion")["model_version"]["version"] == "1"

    def test_a_missing_alias_or_model_is_not_found(self, hook, name):
        with pytest.raises(MLflowNotFoundError):
            hook.get_model_version_by_alias(name, "champion")
        hook.create_registered_model(name)
        with pytest.raises(MLflowNotFoundError, match="champion"):
            hook.get_model_version_by_alias(name, "champion")

    def test_an_alias_that_mlflow_refuses_is_not_called_missing(self, hook, name):
        with pytest.raises(MLflowAPIError) as raised:
            hook.get_model_version_by_alias(name, "")

        assert raised.value.error_code == "INVALID_PARAMETER_VALUE"
        assert not isinstance(raised.value, MLflowNotFoundError)

    @pytest.mark.parametrize("registered_as", ["uri", "run_uri"])
    @pytest.mark.parametrize("looked_for_as", ["uri", "run_uri"])
    def test_a_version_is_found_by_the_model_it_was_made_from(
        self, hook, name, logged_model, registered_as, looked_for_as
    ):
        with hook.tracking():
            mlflow.register_model(getattr(logged_model, registered_as), name)

        found = hook.find_model_version(name, getattr(logged_model, looked_for_as))

        assert found is not None
        assert found["model_version"]["version"] == "1"

    def test_the_newest_of_several_versions_is_found(self, hook, name):
        hook.create_registered_model(name)
        other, wanted = "s3://bucket/other", "s3://bucket/it's"
        for source in [other, wanted, *[other] * 9, wanted]:  # versions 2 and 12: text sorts otherwise
            hook.call("POST", "model-versions/create", {"name": name, "source": source})

        found = hook.find_model_version(name, wanted)

        assert found is not None
        assert found["model_version"]["version"] == "12"

    def test_no_version_is_found_where_there_is_none(self, hook, name, logged_model):
        assert hook.find_model_version(name, logged_model.uri) is None
        assert hook.find_model_version(name, logged_model.run_uri) is None
        assert hook.find_model_version(name, "s3://bucket/model") is None

    def test_a_run_that_is_missing_is_not_found(self, hook, name):
        with pytest.raises(MLflowNotFoundError):
            hook.find_model_version(name, f"runs:/{'0' * 32}/model")

    @pytest.mark.parametrize(("wanted", "found"), [(1000, 5), (5, 5), (3, 3), (1, 1)])
    def test_search_goes_on_from_page_to_page(self, hook, name, monkeypatch, wanted, found):
        monkeypatch.setattr(client, "PAGE_SIZE", 2)
        for number in range(5):
            hook.create_registered_model(f"{name}-{number}")

        models = hook.search("registered-models", f"name LIKE '{name}%'", ["name DESC"], max_results=wanted)

        assert [model["name"] for model in models] == [f"{name}-{4 - number}" for number in range(found)]

    def test_search_without_a_hit_is_empty(self, hook, name):
        assert hook.search("model-versions", f"name = '{name}'") == []
