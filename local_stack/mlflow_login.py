"""The login on MLflow, which ``MLFLOW_AUTH=1`` switches on.

Its administrator's password is made once, and stays until ``make reset``, as does whether the login is on.

.. seealso:: https://mlflow.org/docs/latest/self-hosting/security/basic-http-auth/
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from local_stack.settings import MLFLOW_HOME, ROOT, LocalError, setting

USER = "admin"
FOLDER = MLFLOW_HOME / "login"
PASSWORD = FOLDER / "password"
KEY = FOLDER / "secret-key"  # of MLflow's forms
CONFIG = FOLDER / "basic_auth.ini"
IS_ON = FOLDER / "is-on"
ANSWERS = {"1": True, "true": True, "yes": True, "on": True}
ANSWERS |= {"": False, "0": False, "false": False, "no": False, "off": False}


def wanted() -> bool | None:
    """Return what the shell or ``.env`` says of the login, None if neither says anything.

    :raises LocalError: that is neither yes nor no.
    """
    value = setting("MLFLOW_AUTH")
    if value is None:
        return None
    if value.lower() not in ANSWERS:
        raise LocalError(f"MLFLOW_AUTH={value}: set 1 for a login on MLflow, or 0 for none.")
    return ANSWERS[value.lower()]


def is_on() -> bool:
    """Tell whether the running MLflow, or the last one, wants a login."""
    return IS_ON.exists()


def prepare() -> None:
    """Switch the login on or off if that is wanted; the first time, make its password."""
    if wanted() is False:
        IS_ON.unlink(missing_ok=True)
    if not (wanted() or is_on()):
        return
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    for file in (PASSWORD, KEY):
        if not file.exists():
            _write_private(file, secrets.token_urlsafe(24))
    # A login that was accepted is remembered: to check one takes MLflow a third of a second.
    users = f"sqlite:///{(FOLDER / 'users.db').relative_to(ROOT)}"
    settings = {"default_permission": "READ", "database_uri": users, "auth_cache_ttl_seconds": "600"}
    CONFIG.write_text("\n".join(["[mlflow]", *(f"{name} = {value}" for name, value in settings.items()), ""]))
    IS_ON.touch()


def _write_private(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)


def environment() -> dict[str, str]:
    """Return what the MLflow server reads, where the login is on."""
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(CONFIG.relative_to(ROOT)),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD.read_text(),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": KEY.read_text(),
    }


def credentials() -> tuple[str, str] | None:
    """Return user name and password, None where the login was never on.

    An MLflow without login ignores them, and Airflow's API cannot take the password of a connection away.
    """
    return (USER, PASSWORD.read_text().strip()) if PASSWORD.exists() else None
