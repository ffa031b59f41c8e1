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
from typing import TYPE_CHECKING

from local.settings import AIRFLOW, AIRFLOW_HOME, DAGS, ROOT, LocalError
from local.supervision import environment

if TYPE_CHECKING:
    from local.ports import Ports


def write_config(ports: Ports) -> None:
    """Write ``airflow.cfg``; secrets that are already there stay, as the database is encrypted with them."""
    path = AIRFLOW_HOME / "airflow.cfg"
    config = configparser.RawConfigParser()
    config.read(path)
    generated = {
        ("core", "fernet_key"): base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        ("api", "secret_key"): secrets.token_urlsafe(64),
        ("api_auth", "jwt_secret"): secrets.token_urlsafe(64),
    }
    kept = {key: config.get(*key, fallback=new) for key, new in generated.items()}
    config.clear()
    for section, options in _settings(ports).items():
        # The folder of the project may have a per cent sign in its path.
        config[section] = {option: str(value).replace("%", "%%") for option, value in options.items()}
    for (section, option), secret in kept.items():
        config.set(section, option, secret)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        config.write(file)


def _settings(ports: Ports) -> dict[str, dict[str, object]]:
    return {
        "core": {
            "dags_folder": DAGS,
            "plugins_folder": ROOT / "plugins",
            "executor": "LocalExecutor",
            "parallelism": 4,  # each is a process
            "load_examples": False,
            "simple_auth_manager_all_admins": True,  # no login page: this is one person's machine
            "test_connection": "Enabled",  # the Test button of the connection form
            "execution_api_server_url": f"http://127.0.0.1:{ports.airflow}/execution/",
            "hostname_callable": "socket.gethostname",  # the default one may wait for a name server
        },
        # The seconds a writer waits for another one; the usual 5 are too few while many tasks run.
        "database": {"sql_alchemy_conn": f"sqlite:///{AIRFLOW_HOME}/airflow.db?timeout=30"},
        "api": {
            "host": "127.0.0.1",
            "port": ports.airflow,
            "base_url": f"http://localhost:{ports.airflow}",
        },
        "api_auth": {},
        "scheduler": {
            "scheduler_idle_sleep_time": 0.5,
            # After a crash, what the old scheduler had started is found and run again within half a minute.
            "scheduler_health_check_threshold": 15,
            "orphaned_tasks_check_interval": 15,
            "task_instance_heartbeat_timeout": 60,
        },
        "dag_processor": {
            "refresh_interval": 5,  # seconds until a new DAG file is noticed
            "bundle_refresh_check_interval": 2,
            "parsing_processes": 1,
        },
        "mlflow": {  # the provider's: where a browser finds the server that tasks find at 127.0.0.1
            "ui_urls": json.dumps({f"http://127.0.0.1:{ports.mlflow}": f"http://localhost:{ports.mlflow}"}),
        },
        "usage_data_collection": {"enabled": False},
    }


def migrate() -> None:
    """Create the database, or bring it to the installed Airflow's version; skipped when it is there already.

    :raises LocalError: Airflow could not.
    """
    version = importlib.metadata.version("apache-airflow-core")
    stamp = AIRFLOW_HOME / "migrated-to"
    if (AIRFLOW_HOME / "airflow.db").exists() and stamp.exists() and stamp.read_text() == version:
        return
    done = subprocess.run(
        [AIRFLOW, "db", "migrate"], env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LocalError(f"Airflow {version} could not prepare its database.", done.stdout + done.stderr)
    stamp.write_text(version)
