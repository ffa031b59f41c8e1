"""The login on MLflow, which ``MLFLOW_AUTH=1`` turns on.

The administrator's password is generated once. It is kept until ``make reset``, and so is whether the login
is on.

.. seealso:: https://mlflow.org/docs/latest/self-hosting/security/basic-http-auth/
"""

from __future__ import annotations

import os
import secrets
from configparser import RawConfigParser

from local_stack.settings import MLFLOW_HOME, ROOT, LocalError

USER = "admin"
FOLDER = MLFLOW_HOME / "login"
PASSWORD = FOLDER / "password"
KEY = FOLDER / "secret-key"  # of MLflow's forms
CONFIG = FOLDER / "basic_auth.ini"
IS_ON = FOLDER / "is-on"
SETTINGS = {"": False, **RawConfigParser.BOOLEAN_STATES}


def read_setting() -> bool | None:
    """Return whether ``MLFLOW_AUTH`` turns the login on or off; None if it is not set.

    :raises LocalError: the value is not a boolean.
    """
    value = os.environ.get("MLFLOW_AUTH")
    if value is not None and value.lower() not in SETTINGS:
        raise LocalError(f"MLFLOW_AUTH={value} is not valid. Set 1 for a login on MLflow, or 0 for none.")
    return None if value is None else SETTINGS[value.lower()]


def is_on() -> bool:
    """Return whether the running MLflow, or the last one, requires a login."""
    return IS_ON.exists()


def prepare() -> None:
    """Apply the setting; generate the password when the login is first turned on."""
    turn_on = read_setting()
    if turn_on is False:
        IS_ON.unlink(missing_ok=True)
    if not (turn_on or is_on()):
        return
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    for file in (PASSWORD, KEY):
        if not file.exists():
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as opened:
                opened.write(secrets.token_urlsafe(24))
    config = RawConfigParser()
    config["mlflow"] = {
        "default_permission": "READ",
        "database_uri": f"sqlite:///{(FOLDER / 'users.db').relative_to(ROOT)}",
        "auth_cache_ttl_seconds": "600",  # checking a login takes MLflow a third of a second
    }
    with CONFIG.open("w") as opened:
        config.write(opened)
    IS_ON.touch()


def environment() -> dict[str, str]:
    """Return the variables that the MLflow server reads if the login is on."""
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(CONFIG.relative_to(ROOT)),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD.read_text(),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": KEY.read_text(),
    }


def credentials() -> tuple[str, str] | None:
    """Return user name and password; None if the login was never on.

    An MLflow without a login ignores them, and Airflow's API cannot remove the password of a connection.
    """
    return (USER, PASSWORD.read_text().strip()) if PASSWORD.exists() else None
