"""On a server that requires a login everything works with it, nothing without it, and it is never shown."""

from __future__ import annotations

import json

import mlflow
import pytest

import mlflow_servers
from mlflow_provider.exceptions import MLflowAPIError, MLflowProviderError, wrap_mlflow_errors
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators.registry import (
    CreateRegisteredModelOperator,
    DeleteModelVersionOperator,
    DeleteRegisteredModelAliasOperator,
    DeleteRegisteredModelOperator,
    GetLatestModelVersionsOperator,
    GetModelVersionByAliasOperator,
    GetModelVersionOperator,
    GetRegisteredModelOperator,
    RegisterModelOperator,
)
from mlflow_provider.sensors.registry import MLflowModelVersionSensor

HOW_TO_GET_PERMISSION = (
    r"ask MLflow's administrator for the permission, or use another login in the connection\."
)


@pytest.fixture
def mlflow_default(mlflow_auth_server, airflow_connection):
    """Replaces the connection to the server without login, also for `hook` and `execute`."""
    return airflow_connection("mlflow_default", **mlflow_auth_server.connection)


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory):
    """A server whose users have no permissions by default."""
    with pytest.MonkeyPatch.context() as patch:
        config = mlflow_servers.AUTH_CONFIG.replace("= READ", "= NO_PERMISSIONS")
        patch.setattr(mlflow_servers, "AUTH_CONFIG", config)
        folder = tmp_path_factory.mktemp("mlflow")
        with mlflow_servers.run_mlflow_server(folder, mlflow_servers.ADMIN_PASSWORD) as server:
            yield server


@pytest.fixture
def eve(hook, mlflow_auth_server, airflow_connection, name):
    """A hook for a new user without permissions of her own; ``mlflow_default`` becomes her connection."""
    airflow_connection("admin", **mlflow_auth_server.connection)
    password = "a-password-for-eve"
    hook.call("POST", "users/create", {"username": name, "password": password})
    airflow_connection(host=mlflow_auth_server.url, login=name, password=password)
    return MLflowClientHook()


@pytest.fixture
def no_password(mlflow_auth_server, caplog, capfd):
    """A function that asserts that the password is not in a text, nor in what was logged and printed."""
    caplog.set_level("DEBUG")

    def check(text: str) -> str:
        captured = capfd.readouterr()
        everything = "\n".join([text, caplog.text, captured.out, captured.err])
        for spelling in (mlflow_auth_server.password, json.dumps(mlflow_auth_server.password)[1:-1]):
            assert spelling not in everything
        return everything

    return check


def test_the_right_login_is_accepted(hook, mlflow_auth_server, no_password):
    works, message = hook.test_connection()

    assert works, message
    assert "accepts this login" in message
    no_password(message + repr(vars(hook)))


@pytest.mark.parametrize(
    ("login", "advice"),
    [
        ({}, "authentication required; enter Login and Password"),
        ({"login": "admin", "password": "wrong"}, "login rejected; correct Login and Password"),
    ],
)
def test_no_other_login_is_accepted(mlflow_auth_server, airflow_connection, login, advice):
    airflow_connection(host=mlflow_auth_server.url, **login)

    works, message = MLflowClientHook().test_connection()

    assert not works
    assert "401" in message
    assert advice in message


def test_login_and_password_may_be_unicode(hook, mlflow_auth_server, airflow_connection, name):
    user, password = f"Ада-{name}", "пароль-в-тайне"
    hook.call("POST", "users/create", {"username": user, "password": password})
    airflow_connection(host=mlflow_auth_server.url, login=user, password=password)

    works, message = MLflowClientHook().test_connection()

    assert works, message


@pytest.mark.parametrize(
    ("method", "path", "params", "lacks"),
    [
        ("PATCH", "registered-models/update", {}, "EDIT on registered model '{name}'"),
        (
            "POST",
            "model-versions/create",
            {"source": "s3://bucket/x"},
            "EDIT on registered model '{name}'",
        ),
        ("DELETE", "registered-models/delete", {}, "MANAGE on registered model '{name}'"),
        ("POST", "runs/create", {"experiment_id": "0"}, "EDIT on experiment '0'"),
    ],
)
def test_a_missing_permission_is_named_with_its_object_and_the_fix(
    hook, eve, name, method, path, params, lacks
):
    hook.create_registered_model(name)

    with pytest.raises(MLflowAPIError) as raised:
        eve.call(method, path, {"name": name, **params} if "experiment_id" not in params else params)

    assert raised.value.status_code == 403
    advice = "ask MLflow's administrator for it, or use another login in the connection"
    lacks = lacks.format(name=name)
    assert str(raised.value).startswith(f"this login lacks the permission {lacks}; {advice} (")


def test_a_missing_permission_is_an_error_of_the_package_with_its_fix(hook, eve, name):
    hook.create_registered_model(name)

    with (
        pytest.raises(MLflowProviderError, match=f"Permission denied'; {HOW_TO_GET_PERMISSION}$"),
        wrap_mlflow_errors("Deleting it with the package"),
    ):
        eve.client.delete_registered_model(name)


class TestNoPermissionsByDefault:
    """MLflow then answers 403 for a registered model that does not exist."""

    @pytest.fixture
    def mlflow_auth_server(self, closed_server):
        return closed_server

    @pytest.fixture
    def grant(self, hook, eve):
        """A function that gives Eve a permission on a registered model."""

        def grant(name: str, permission: str) -> None:
            params = {"username": eve.connection.login.username, "permission": permission}
            params |= {"resource_type": "registered_model", "resource_id": name}
            MLflowClientHook("POST", "admin").run(
                "api/3.0/mlflow/users/permissions/grant", request_params=params
            ).raise_for_status()

        return grant

    def test_the_sensor_waits_for_a_model_and_says_once_that_it_may_be_forbidden(
        self, hook, eve, grant, name, caplog
    ):
        sensor = MLflowModelVersionSensor(task_id="wait", name=name)

        assert not any(sensor.poke({}) for _ in range(2))
        hook.create_registered_model(name)
        hook.call("POST", "model-versions/create", {"name": name, "source": "s3://bucket/x"})
        assert not sensor.poke({})
        grant(name, "READ")
        assert sensor.poke({})

        sentence = f"registered model '{name}' does not exist, or this login lacks the permission READ on it"
        assert caplog.text.count(sentence) == 1

    @pytest.mark.parametrize(
        ("operator_class", "arguments"),
        [
            (GetRegisteredModelOperator, {}),
            (DeleteRegisteredModelOperator, {}),
            (GetModelVersionOperator, {"version": 1}),
            (DeleteModelVersionOperator, {"version": 1}),
            (GetModelVersionByAliasOperator, {"alias": "champion"}),
            (DeleteRegisteredModelAliasOperator, {"alias": "champion"}),
            (GetLatestModelVersionsOperator, {}),
        ],
    )
    def test_a_missing_model_is_ignored(self, eve, name, operator_class, arguments):
        operator = operator_class(task_id="task", name=name, ignore_if_missing=True, **arguments)

        assert operator.execute({}) is None

    def test_a_model_that_may_only_be_read_is_not_missing(self, hook, eve, grant, name):
        hook.create_registered_model(name)
        grant(name, "READ")
        delete = DeleteRegisteredModelOperator(task_id="delete", name=name, ignore_if_missing=True)

        with pytest.raises(MLflowAPIError, match=f"lacks the permission MANAGE on registered model '{name}'"):
            delete.execute({})


def test_a_model_is_logged_registered_and_read_back(
    hook, execute, log_model, predict, name, xcoms, mlflow_auth_server, no_password
):
    logged = log_model(hook.connection, name)
    result = execute(RegisterModelOperator, model_uri=logged.run_uri, name=name)

    assert predict(hook.connection, xcoms["model_uri"]) == pytest.approx(logged.predictions)
    with hook.tracking():
        assert mlflow.artifacts.load_dict(f"runs:/{logged.run_id}/plan/folds.json") == {"folds": 5}
    run = hook.get_run(logged.run_id)
    assert hook.client.get_run(logged.run_id).info.status == "FINISHED"  # outside a block
    no_password(json.dumps([result, xcoms, run], ensure_ascii=False) + repr(hook.client))


def test_errors_and_logs_do_not_show_the_password(execute, no_password, name):
    execute(CreateRegisteredModelOperator, name=name)

    with pytest.raises(MLflowAPIError) as raised:
        execute(CreateRegisteredModelOperator, name=name)
    assert execute(CreateRegisteredModelOperator, name=name, if_exists="skip")

    everything = no_password(f"{raised.value!r} {raised.value}")
    # The hook and the library that sends its requests have logged something.
    assert f"Registered model '{name}' already exists" in everything
    assert "POST /api/2.0/mlflow/registered-models/create" in everything
