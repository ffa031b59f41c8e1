"""The login on MLflow: switched on and off by one variable, and its password kept for its owner alone."""

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
    """A function that does what `make up` does about the login, with this value of the variable."""

    def start(value: str | None = None) -> None:
        monkeypatch.delenv("MLFLOW_AUTH", raising=False)
        if value is not None:
            monkeypatch.setenv("MLFLOW_AUTH", value)
        mlflow_login.prepare()

    return start


def mlflow():
    return next(each for each in supervision.components(PORTS) if each.name == "mlflow")


def connection(**fields):
    entry = {"conn_id": "c", "conn_type": "mlflow", "conn_host": "http://mlflow"} | fields
    return airflow_settings._connection(entry, PORTS)


@pytest.mark.parametrize("value", [None, "", "0", "no", "Off", "false"])
def test_it_is_off_unless_it_is_wanted(start, value):
    start(value)
    assert not mlflow_login.is_on()
    assert mlflow_login.credentials() is None
    assert "--app-name=basic-auth" not in mlflow().command
    assert not mlflow_login.FOLDER.exists()


@pytest.mark.parametrize("value", ["1", "yes", "on", "TRUE"])
def test_it_is_switched_on_by_one_variable(start, value):
    start(value)
    assert mlflow_login.is_on()
    assert "--app-name=basic-auth" in mlflow().command


def test_it_stays_as_it_was_and_the_password_for_good(start):
    start("1")
    login = mlflow_login.credentials()
    seen = []
    for value in (None, "0", None, "1"):
        start(value)
        seen.append((mlflow_login.is_on(), mlflow_login.credentials()))
    assert seen == [(True, login), (False, login), (False, login), (True, login)]


def test_neither_yes_nor_no_is_refused(start):
    with pytest.raises(LocalError, match="MLFLOW_AUTH=maybe: set 1 for a login on MLflow, or 0 for none"):
        start("maybe")


def test_only_their_owner_can_read_the_secrets(start):
    start("1")
    for file in (mlflow_login.PASSWORD, mlflow_login.KEY):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert len(file.read_text()) >= 32
    assert stat.S_IMODE(mlflow_login.FOLDER.stat().st_mode) == 0o700
    assert mlflow_login.PASSWORD.read_text() != mlflow_login.KEY.read_text()


def test_the_password_is_in_the_environment_of_mlflow_alone(start):
    start("1")
    _, password = mlflow_login.credentials()
    components = supervision.components(PORTS)
    assert [each.name for each in components if password in each.environment.values()] == ["mlflow"]
    assert password not in repr(components) + supervision.config(PORTS)
    assert password not in mlflow_login.CONFIG.read_text()


def test_mlflow_keeps_its_users_in_the_folder(start):
    start("1")
    config = configparser.ConfigParser()
    config.read(mlflow_login.CONFIG)
    assert config["mlflow"]["database_uri"] == "sqlite:///login/users.db"
    assert mlflow().environment["MLFLOW_AUTH_CONFIG_PATH"] == "login/basic_auth.ini"


class TestConnection:
    """What Airflow gets as `mlflow_default`."""

    DEMO = {"conn_login": "admin", "conn_password": "mlflow-demo-secret"}

    @pytest.mark.parametrize("fields", [{}, DEMO])
    @pytest.mark.parametrize("now", ["1", "0"])
    def test_has_the_login_from_the_first_time_that_it_is_on(self, start, fields, now):
        """Airflow's API would leave the password; an MLflow without login ignores both."""
        start("1")
        start(now)
        found = connection(**fields)
        assert (found["login"], found["password"]) == mlflow_login.credentials()

    @pytest.mark.parametrize("fields", [{}, DEMO])
    def test_has_none_before_that(self, fields):
        found = connection(**fields)
        assert (found["login"], found["password"]) == (None, None)

    def test_keeps_the_login_of_another_user(self, start):
        start("1")
        found = connection(conn_login="ada", conn_password="hers")
        assert (found["login"], found["password"]) == ("ada", "hers")

    def test_to_another_server_stays_as_it_is(self, start):
        start("1")
        found = connection(
            conn_host="https://mlflow.example.com", conn_login="admin", conn_password="its own"
        )
        assert (found["login"], found["password"]) == ("admin", "its own")
