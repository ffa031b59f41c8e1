"""Airflow's home: its configuration file, which is written at each start, its plugins and its database.

All settings are in ``airflow.cfg``, so that ``AIRFLOW_HOME=.local/data/airflow .venv/bin/airflow ...`` uses
the same Airflow as the stack. The secrets in it are random, and only their owner can read them.
"""

from __future__ import annotations

import base64
import configparser
import importlib.metadata
import json
import os
import secrets
import subprocess
from typing import TYPE_CHECKING

from local_stack.settings import AIRFLOW, AIRFLOW_HOME, DAGS, ROOT, LocalError
from local_stack.supervision import environment

if TYPE_CHECKING:
    from local_stack.ports import Ports

PLUGINS = AIRFLOW_HOME / "plugins"


def write_config(ports: Ports) -> None:
    """Write ``airflow.cfg``, and keep generated values: the database is encrypted with one of them."""
    path = AIRFLOW_HOME / "airflow.cfg"
    previous = configparser.RawConfigParser()
    previous.read(path)
    generated = {
        ("core", "fernet_key"): base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        ("api", "secret_key"): secrets.token_urlsafe(64),
        ("api_auth", "jwt_secret"): secrets.token_urlsafe(64),
        # Distinguishes this Airflow from others that log to the same MLflow server.
        ("mlflow", "instance"): f"local-{secrets.token_hex(4)}",
    }
    mlflow = {f"http://127.0.0.1:{ports.mlflow}": f"http://localhost:{ports.mlflow}"} if ports.mlflow else {}
    fixed = {
        ("core", "dags_folder"): str(DAGS),
        ("core", "plugins_folder"): str(PLUGINS),
        ("core", "execution_api_server_url"): f"http://127.0.0.1:{ports.airflow}/execution/",
        # Seconds that a writer waits for another one; the default of 5 is too short while many tasks run.
        ("database", "sql_alchemy_conn"): f"sqlite:///{AIRFLOW_HOME}/airflow.db?timeout=30",
        # Airflow's defaults do not find its home if the path contains a per cent sign.
        ("logging", "base_log_folder"): f"{AIRFLOW_HOME}/logs",
        ("logging", "dag_processor_child_process_log_directory"): f"{AIRFLOW_HOME}/logs/dag_processor",
        ("api", "port"): str(ports.airflow),
        ("api", "base_url"): f"http://localhost:{ports.airflow}",
        ("stack", "allowed_hosts"): os.environ.get("AIRFLOW_ALLOWED_HOSTS", ""),
        ("mlflow", "ui_urls"): json.dumps(mlflow),  # addresses that tasks use, and those for a browser
    }
    kept = {key: previous.get(*key, fallback=value) for key, value in generated.items()}
    config = configparser.RawConfigParser()
    config.read(ROOT / "local_stack" / "airflow.cfg")
    for (section, option), value in (kept | fixed).items():
        if not config.has_section(section):
            config.add_section(section)
        # The project's path may contain a per cent sign; generated values do not.
        config.set(section, option, value.replace("%", "%%"))
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        config.write(file)


def link_plugins() -> None:
    """Link the project's plugins and the stack's own into one folder, because Airflow reads only one."""
    PLUGINS.mkdir(exist_ok=True)
    for name, folder in {"project": ROOT / "plugins", "stack": ROOT / "local_stack" / "plugins"}.items():
        (PLUGINS / name).unlink(missing_ok=True)
        (PLUGINS / name).symlink_to(folder)


def migrate() -> None:
    """Create the database or upgrade it to the installed Airflow, unless that has been done.

    :raises LocalError: Airflow failed.
    """
    version = importlib.metadata.version("apache-airflow-core")
    stamp = AIRFLOW_HOME / "migrated-to"
    if (AIRFLOW_HOME / "airflow.db").exists() and stamp.exists() and stamp.read_text() == version:
        return
    command = [str(AIRFLOW), "db", "migrate"]
    process = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if process.returncode:
        raise LocalError(
            f"Airflow {version} could not prepare its database.", process.stdout + process.stderr
        )
    stamp.write_text(version)
