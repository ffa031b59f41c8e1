"""The login on MLflow: one variable turns it on and off, and only the owner can read the password."""

import configparser
import stat

import pytest

from local_stack import airflow_settings, mlflow_login, supervision
from local_stack.ports import Ports
from local_stack.settings import LocalError

PORTS = Ports(airflow=8090, mlflow=5090)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A project in which the login was never on."""
    folder = tmp_path / "login"
    monkeypatch.setattr(mlflow_login, "ROOT", tmp_path)
    monkeypatch.setattr(mlflow_login, "FOLDER", folder)
    for name in ("PASSWORD", "KEY", "CONFIG", "IS_ON"):
        monkeypatch.setattr(mlflow_login, name, folder / getattr(mlflow_login, name).name)


@pytest.fixture
def start(monkeypatch):
    """A function that prepares the login as `make up` does, with this value of the variable."""

    def start(value: str | None = None) -> None:
        monkeypatch.delenv("MLFLOW_AUTH", raising=False)
        if value is not None:
            monkeypatch.setenv("MLFLOW_AUTH", value)
        mlflow_login.prepare()

    return start


def mlflow():
    return next(each for each in supervision.components(PORTS) if each.name == "mlflow")


@pytest.mark.parametrize("value", [None, "", "0", "no", "Off", "false"])
def test_it_is_off_by_default(start, value):
    start(value)
    assert not mlflow_login.is_on()
    assert mlflow_login.credentials() is None
    assert "--app-name=basic-auth" not in mlflow().command
    assert not mlflow_login.FOLDER.exists()


@pytest.mark.parametrize("value", ["1", "yes", "on", "TRUE"])
def test_one_variable_turns_it_on(start, value):
    start(value)
    assert mlflow_login.is_on()
    assert "--app-name=basic-auth" in mlflow().command


def test_it_stays_on_or_off_and_the_password_never_changes(start):
    start("1")
    login = mlflow_login.credentials()
    states = []
    for value in (None, "0", None, "1"):
        start(value)
        states.append((mlflow_login.is_on(), mlflow_login.credentials()))
    assert states == [(True, login), (False, login), (False, login), (True, login)]


def test_another_value_is_rejected(start):
    with pytest.raises(LocalError, match=r"MLFLOW_AUTH=maybe is not valid\. Set 1 .* or 0"):
        start("maybe")


def test_only_the_owner_can_read_the_secrets(start):
    start("1")
    for file in (mlflow_login.PASSWORD, mlflow_login.KEY):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert len(file.read_text()) >= 32
    assert stat.S_IMODE(mlflow_login.FOLDER.stat().st_mode) == 0o700
    assert mlflow_login.PASSWORD.read_text() != mlflow_login.KEY.read_text()


def test_only_the_environment_of_mlflow_contains_the_password(start, tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "CONFIG", tmp_path / "supervisor.conf")
    start("1")
    _, password = mlflow_login.credentials()
    components = supervision.components(PORTS)
    supervision.write_config(PORTS)
    assert [each.name for each in components if password in each.environment.values()] == ["mlflow"]
    assert password not in repr(components)
    assert password not in supervision.CONFIG.read_text() + mlflow_login.CONFIG.read_text()


def test_mlflow_keeps_its_users_in_the_folder(start):
    start("1")
    config = configparser.ConfigParser()
    config.read(mlflow_login.CONFIG)
    assert config["mlflow"]["database_uri"] == "sqlite:///login/users.db"
    assert mlflow().environment["MLFLOW_AUTH_CONFIG_PATH"] == "login/basic_auth.ini"


OURS = object()  # the login that `make up` has generated
NONE = (None, None)
DEMO = {"conn_login": "admin", "conn_password": "mlflow-demo-secret"}
ADA = {"conn_login": "ada", "conn_password": "hers"}
ELSEWHERE = {"conn_host": "https://mlflow.example.com", "conn_login": "admin", "conn_password": "its own"}


@pytest.mark.parametrize(
    ("history", "fields", "expected"),
    [
        ([], {}, NONE),
        ([], DEMO, NONE),
        (["1"], {}, OURS),
        (["1"], DEMO, OURS),
        # Airflow's API would keep the password anyway, and an MLflow without a login ignores both.
        (["1", "0"], {}, OURS),
        (["1", "0"], DEMO, OURS),
        (["1"], ADA, ("ada", "hers")),
        (["1"], ELSEWHERE, ("admin", "its own")),
    ],
)
def test_the_connection_gets_the_login_unless_it_has_another_login_or_server(
    start, history, fields, expected
):
    for value in history:
        start(value)
    entry = {"conn_id": "c", "conn_type": "mlflow", "conn_host": "http://mlflow"} | fields
    connection = airflow_settings._connection(entry, PORTS)
    login = mlflow_login.credentials() if expected is OURS else expected
    assert (connection["login"], connection["password"]) == login
