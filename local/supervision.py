"""The process supervisor: what it runs, how it is started, and the way to ask it.

Every path that it is told is relative to the project (``local.supervisord`` says why).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from local import minio
from local.processes import STACK
from local.settings import (
    AIRFLOW,
    AIRFLOW_HOME,
    LOCAL,
    LOGS,
    MINIO,
    MINIO_HOME,
    MLFLOW_HOME,
    MLFLOW_VENV,
    ROOT,
    VENV,
    LocalError,
    Ports,
)

SOCKET = LOCAL.relative_to(ROOT) / "supervisor.sock"
CONFIG = LOCAL / "supervisor.conf"


@dataclass(frozen=True)
class Component:
    """One program of the stack: what runs it, where a browser finds it, and how it is stopped."""

    name: str
    command: str
    port: int | None = None
    stop_signal: str = "TERM"
    stop_patience: int = 10  # seconds until it is killed


def components(ports: Ports) -> list[Component]:
    """List what runs, in the order in which it starts."""
    airflow, mlflow, home, store, objects = (
        path.relative_to(ROOT)
        for path in (AIRFLOW, MLFLOW_VENV / "bin" / "mlflow", MLFLOW_HOME, MINIO, MINIO_HOME)
    )
    minio_options = f"--address 127.0.0.1:{ports.minio} --console-address 127.0.0.1:{ports.minio_console}"
    destination = f"s3://{minio.BUCKET}" if ports.minio else f"{home}/artifacts"
    mlflow_options = (
        f"--host 127.0.0.1 --port {ports.mlflow} --workers 1",
        f"--backend-store-uri sqlite:///{home}/mlflow.db --artifacts-destination {destination}",
        f"--allowed-hosts localhost:{ports.mlflow},127.0.0.1:{ports.mlflow}",
    )
    with_minio = Component("minio", f"{store} server {minio_options} {objects}", ports.minio_console)
    return [
        *([with_minio] if ports.minio else []),
        Component("mlflow", f"{mlflow} server {' '.join(mlflow_options)}", ports.mlflow),
        Component("api-server", f"{airflow} api-server", ports.airflow),
        # Without their servers for logs, which would listen on all interfaces: the logs are on this disk.
        # The scheduler passes INT on to the running tasks, which end and are retried after the next start;
        # after TERM it would wait until they have finished, however long they take.
        Component("scheduler", f"{airflow} scheduler --skip-serve-logs", stop_signal="INT"),
        Component("dag-processor", f"{airflow} dag-processor"),
        # It often does not notice that its child has ended. All it knows is in the database, too.
        Component("triggerer", f"{airflow} triggerer --skip-serve-logs", stop_patience=3),
    ]


def environment() -> dict[str, str]:
    """Return the environment of the stack's processes."""
    return {
        **os.environ,
        STACK: str(ROOT),
        # Without it, processes that rename themselves overwrite the environment they are found by.
        "SPT_NOENV": "1",
        "AIRFLOW_HOME": str(AIRFLOW_HOME),
        "PYTHONPATH": str(ROOT),  # `include` is imported from here
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a dozen processes for features not used here
        "DO_NOT_TRACK": "true",
    }


def config(ports: Ports) -> str:
    """Return supervisord's configuration.

    Its identifier carries the ports, so that a running stack itself tells which ones it uses. The keys of the
    object store are for those two only: no task finds them in its environment.
    """
    environments = {}
    if ports.minio:
        environments = {"minio": minio.server_environment(ports), "mlflow": minio.client_environment(ports)}
    python, local, logs = (path.relative_to(ROOT) for path in (VENV / "bin" / "python", LOCAL, LOGS))
    supervisord = f"""
[unix_http_server]
file = {SOCKET}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisord]
identifier = {json.dumps(asdict(ports))}
nodaemon = true
silent = true
logfile = {logs}/supervisord.log
pidfile = {local}/supervisord.pid
"""
    programs = [
        f"""
[program:{component.name}]
command = {python} -m local.processes {component.name} {component.command}
environment = {_variables(environments.get(component.name, {}))}
autostart = false
autorestart = true
startsecs = 20
startretries = 100
stopsignal = {component.stop_signal}
stopasgroup = true
stopwaitsecs = {component.stop_patience}
killasgroup = true
redirect_stderr = true
stdout_logfile = {logs}/{component.name}.log
stdout_logfile_maxbytes = 5MB
stdout_logfile_backups = 1
"""
        for component in components(ports)
    ]
    return supervisord + "".join(programs)


def _variables(values: dict[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in values.items()).replace("%", "%%")


def log_of(component: str) -> Path:
    """Return the file that holds a component's output."""
    return LOGS / f"{component}.log"


def start(ports: Ports) -> Any:
    """Start supervisord, with none of the components running yet, and return its interface.

    :raises LocalError: it does not answer within 10 seconds.
    """
    CONFIG.touch(mode=0o600)
    CONFIG.chmod(0o600)  # it holds MinIO's keys
    CONFIG.write_text(config(ports))
    with (LOGS / "supervisord.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.supervisord", "-c", CONFIG],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in this terminal is not meant for it
        )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        if supervisor := connect():
            return supervisor
        time.sleep(0.05)
    raise LocalError("The process supervisor did not start.", log_of("supervisord").read_text())


def connect() -> Any:
    """Return the running supervisor's interface, None if there is no supervisor.

    .. seealso:: http://supervisord.org/api.html
    """
    proxy = ServerProxy("http://localhost", transport=SupervisorTransport(serverurl=f"unix://{SOCKET}"))
    try:
        proxy.supervisor.getState()
    except OSError:
        return None
    return proxy.supervisor


def ports_of(supervisor: Any) -> Ports:
    """Return the ports that the running stack uses."""
    return Ports(**json.loads(supervisor.getIdentification()))
