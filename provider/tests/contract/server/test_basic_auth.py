"""On a server that requires a login everything works with it, nothing without it, and it is never shown."""

from __future__ import annotations

import json

import mlflow
import pytest

from mlflow_provider.exceptions import MLflowAPIError, MLflowProviderError, wrap_mlflow_errors
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators.registry import CreateRegisteredModelOperator, RegisterModelOperator

HOW_TO_GET_PERMISSION = (
    r"ask MLflow's administrator for the permission, or use another login in the connection\."
)


@pytest.fixture
def mlflow_default(mlflow_auth_server, airflow_connection):
    """Replaces the connection to the server without login, also for `hook` and `execute`."""
    return airflow_connection("mlflow_default", **mlflow_auth_server.connection)


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


def test_a_missing_permission_is_an_error_with_its_fix(
    hook, mlflow_auth_server, airflow_connection, execute, name
):
    password = "a-password-for-eve"
    hook.call("POST", "users/create", {"username": name, "password": password})
    hook.create_registered_model(name)
    airflow_connection(host=mlflow_auth_server.url, login=name, password=password)
    eve = MLflowClientHook()

    with pytest.raises(MLflowAPIError, match=f"Permission denied; {HOW_TO_GET_PERMISSION}$") as raised:
        eve.call("DELETE", "registered-models/delete", {"name": name})
    with (
        pytest.raises(MLflowProviderError, match=f"Permission denied'; {HOW_TO_GET_PERMISSION}$"),
        wrap_mlflow_errors("Deleting it with the package"),
    ):
        eve.client.delete_registered_model(name)

    assert raised.value.status_code == 403
    assert eve.test_connection()[0]


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
