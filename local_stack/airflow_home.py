"""Airflow's home: its configuration file, written anew at each start, and its database.

Everything stands in ``airflow.cfg``, so that ``AIRFLOW_HOME=.local/data/airflow .venv/bin/airflow ...``
sees the same Airflow as the stack does. The secrets in it are random, and only their owner can read them.
"""

from __future__ import annotations

import base64
import configparser
import importlib.metadata
import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from local_stack.settings import AIRFLOW, AIRFLOW_HOME, DAGS, ROOT, LocalError
from local_stack.supervision import environment

if TYPE_CHECKING:
    from local_stack.ports import Ports


def write_config(ports: Ports) -> None:
    """Write ``airflow.cfg``; secrets that are already there stay, as the database is encrypted with them."""
    path = AIRFLOW_HOME / "airflow.cfg"
    before = configparser.RawConfigParser()
    before.read(path)
    generated = {
        ("core", "fernet_key"): base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        ("api", "secret_key"): secrets.token_urlsafe(64),
        ("api_auth", "jwt_secret"): secrets.token_urlsafe(64),
    }
    mlflow = {f"http://127.0.0.1:{ports.mlflow}": f"http://localhost:{ports.mlflow}"}
    depending = {
        ("core", "dags_folder"): str(DAGS),
        ("core", "plugins_folder"): str(_link_plugins()),
        ("core", "execution_api_server_url"): f"http://127.0.0.1:{ports.airflow}/execution/",
        # The seconds a writer waits for another one; the usual 5 are too few while many tasks run.
        ("database", "sql_alchemy_conn"): f"sqlite:///{AIRFLOW_HOME}/airflow.db?timeout=30",
        ("api", "port"): str(ports.airflow),
        ("api", "base_url"): f"http://localhost:{ports.airflow}",
        ("mlflow", "ui_urls"): json.dumps(mlflow),  # where a browser finds what tasks find at 127.0.0.1
    }
    config = configparser.RawConfigParser()
    config.read(ROOT / "local_stack" / "airflow.cfg")
    for (section, option), new in (generated | depending).items():
        if not config.has_section(section):
            config.add_section(section)
        value = before.get(section, option, fallback=new) if (section, option) in generated else new
        # The folder of the project may have a per cent sign in its path; secrets have none.
        config.set(section, option, value.replace("%", "%%"))
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        config.write(file)


def _link_plugins() -> Path:
    """Return the one folder that Airflow reads, with links to the project's plugins and the stack's."""
    folder = AIRFLOW_HOME / "plugins"
    folder.mkdir(exist_ok=True)
    for name, target in {"project": ROOT / "plugins", "stack": ROOT / "local_stack" / "plugins"}.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    return folder


def migrate() -> None:
    """Create the database, or bring it to the installed Airflow's version; skipped when it is there already.

    :raises LocalError: Airflow could not.
    """
    version = importlib.metadata.version("apache-airflow-core")
    stamp = AIRFLOW_HOME / "migrated-to"
    if (AIRFLOW_HOME / "airflow.db").exists() and stamp.exists() and stamp.read_text() == version:
        return
    command = [str(AIRFLOW), "db", "migrate"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"Airflow {version} could not prepare its database.", done.stdout + done.stderr)
    stamp.write_text(version)
