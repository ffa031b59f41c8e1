"""The process supervisor: what it runs, how that is started, and the way to ask it.

A process of the stack is recognised by what it carries in its environment. Process IDs and groups are no help
once a parent was killed: its children live on, and keep its port. So every component is started through this
module, which first ends what an earlier life of it left behind::

    python -m local_stack.supervision mlflow
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import psutil

from local_stack import mlflow_login, object_store, settings
from local_stack.ports import Ports
from local_stack.settings import LocalError

STACK = "LOCAL_STACK"  # which clone a process belongs to
COMPONENT = "LOCAL_STACK_COMPONENT"  # and which of its components; the supervisor has none
CONFIG = settings.LOCAL / "supervisor.conf"
# Relative to the project, where all of it runs: what stands in a URI must not be quoted.
MLFLOW_DATABASE = f"sqlite:///{settings.DATA.relative_to(settings.ROOT)}/mlflow/mlflow.db"
# The same program by a path without a per cent sign, on which MLflow's migrations stumble.
MLFLOW = Path(
    "/proc/self/cwd" if "%" in str(settings.ROOT) else settings.ROOT,
    settings.MLFLOW_VENV.relative_to(settings.ROOT),
    "bin",
    "python",
)


@dataclass(frozen=True)
class Component:
    """One program of the stack: what runs it, where a browser finds it, and how it is stopped."""

    name: str
    command: list[Any]  # paths and words
    environment: dict[str, str] = field(repr=False)
    port: int | None = None
    stop_signal: str = "TERM"
    stop_patience: int = 10  # seconds until it is killed


def components(ports: Ports) -> list[Component]:
    """List what runs, in the order in which it starts.

    :raises LocalError: MinIO runs, and has no keys.
    """
    # No task finds in its environment the keys of the object store, which are for those two only, or the
    # password of MLflow's administrator.
    return [*([_minio(ports)] if ports.minio else []), _mlflow(ports), *_airflow(ports)]


def _minio(ports: Ports) -> Component:
    options = [f"--address=127.0.0.1:{ports.minio}", f"--console-address=127.0.0.1:{ports.minio_console}"]
    options += [f"--certs-dir={settings.LOCAL / 'minio-certificates'}"]  # it would make a folder in HOME
    command = [object_store.PROGRAM, "server", *options, object_store.HOME]
    return Component("minio", command, object_store.keys(ports), ports.minio_console)


def _mlflow(ports: Ports) -> Component:
    on_disk = object_store.ON_DISK.relative_to(settings.ROOT)
    destination = f"s3://{object_store.BUCKET.name}" if ports.minio else on_disk
    command = [MLFLOW, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={ports.mlflow}", "--workers=1"]
    command += [f"--backend-store-uri={MLFLOW_DATABASE}", f"--artifacts-destination={destination}"]
    command += [f"--allowed-hosts=localhost:{ports.mlflow},127.0.0.1:{ports.mlflow}"]
    given = object_store.keys(ports) if ports.minio else {}
    if mlflow_login.is_on():
        command += ["--app-name=basic-auth"]
        given |= mlflow_login.environment()
    return Component("mlflow", command, given, ports.mlflow)


def _airflow(ports: Ports) -> list[Component]:
    # Without their servers for logs, which would listen on all interfaces: the logs are on this disk.
    scheduler, triggerer = (
        [settings.AIRFLOW, name, "--skip-serve-logs"] for name in ("scheduler", "triggerer")
    )
    given = settings.read_env_file()
    return [
        Component("api-server", [settings.AIRFLOW, "api-server"], given, ports.airflow),
        # The scheduler passes INT on to the running tasks, which end and are retried after the next start;
        # after TERM it would wait until they have finished, however long they take.
        Component("scheduler", scheduler, given, stop_signal="INT"),
        Component("dag-processor", [settings.AIRFLOW, "dag-processor"], given),
        # It often does not notice that its child has ended. All it knows is in the database, too.
        Component("triggerer", triggerer, given, stop_patience=3),
    ]


def environment() -> dict[str, str]:
    """Return what every process of the stack has in its environment."""
    return {
        **os.environ,
        STACK: str(settings.ROOT),
        # Without it, processes that rename themselves overwrite the environment they are found by.
        "SPT_NOENV": "1",
        "AIRFLOW_HOME": str(settings.AIRFLOW_HOME),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a dozen processes for features not used here
        "DO_NOT_TRACK": "true",
        "MPLCONFIGDIR": str(settings.DATA / "matplotlib"),  # its list of fonts, else in HOME
    }


def config(ports: Ports) -> str:
    """Return supervisord's configuration, all paths in it being relative to the project."""
    python, local, logs = (
        path.relative_to(settings.ROOT)
        for path in (settings.VENV / "bin" / "python", settings.LOCAL, settings.LOGS)
    )
    supervisord = f"""
[unix_http_server]
file = {settings.SOCKET}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisord]
nodaemon = true
silent = true
logfile = {logs}/supervisord.log
pidfile = {local}/supervisord.pid
childlogdir = {logs}
"""
    programs = [
        f"""
[program:{component.name}]
command = {python} -m local_stack.supervision {component.name}
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


def start(ports: Ports) -> Any:
    """Start supervisord, with none of the components running yet, and return its interface.

    :raises LocalError: it does not answer within 30 seconds.
    """
    CONFIG.write_text(config(ports))
    log_file = settings.LOGS / "supervisord.log"
    with log_file.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local_stack.supervision", "supervisord"],
            cwd=settings.ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in this terminal is not meant for it
        )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if supervisor := connect():
            return supervisor
        time.sleep(0.05)
    raise LocalError("The process supervisor did not start.", log_file.read_text())


def connect() -> Any:
    """Return the running supervisor's interface, None if there is no supervisor.

    .. seealso:: http://supervisord.org/api.html
    """
    from supervisor.xmlrpc import SupervisorTransport

    proxy = ServerProxy(
        "http://localhost", transport=SupervisorTransport(serverurl=f"unix://{settings.SOCKET}")
    )
    try:
        proxy.supervisor.getState()
    except OSError:
        return None
    return proxy.supervisor


def find(component: str | None = None) -> list[psutil.Process]:
    """Return the running processes of this clone's stack, or of one component of it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # ended meanwhile, or another user's
            variables = process.environ()
            if variables.get(STACK) == str(settings.ROOT) and component in (None, variables.get(COMPONENT)):
                found.append(process)
    return found


def end(processes: list[psutil.Process], patience: float = 3) -> None:
    """Ask the processes to end, and after ``patience`` seconds make them."""
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                ask(process)
        processes = wait(processes, patience)


def wait(processes: list[psutil.Process], patience: float) -> list[psutil.Process]:
    """Wait until the processes have ended, and return those that have not after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while processes and time.monotonic() < deadline:
        time.sleep(0.05)
        # A zombie may stay for good where nobody asks how it ended, as in many a container.
        statuses = psutil.process_iter(["status"])
        alive = {each for each in statuses if each.info["status"] != psutil.STATUS_ZOMBIE}
        processes = [process for process in processes if process in alive]
    return processes


def memory(component: str) -> int:
    """Return the memory that a component's processes use, in bytes."""
    total = 0
    for process in find(component):
        with suppress(psutil.Error):
            used = process.memory_full_info()
            # What processes share is counted once with pss, which only Linux knows, and not at all with uss.
            total += getattr(used, "pss", used.uss)
    return total


def _upgrade_mlflow() -> None:
    """Bring an older database to the installed MLflow's version, without which the server refuses it."""
    version = next(settings.MLFLOW_VENV.glob("lib/python*/site-packages/mlflow-*.dist-info")).name
    database, stamp = settings.MLFLOW_HOME / "mlflow.db", settings.MLFLOW_HOME / "upgraded-to"
    if database.exists() and not (stamp.exists() and stamp.read_text() == version):
        kept = database.with_name(f"before-{version}.db")
        if not kept.exists():  # an upgrade that is interrupted leaves something between the versions
            shutil.copy(database, kept)
        subprocess.run([MLFLOW, "-m", "mlflow", "db", "upgrade", MLFLOW_DATABASE], check=True)
    stamp.write_text(version)


def _let_tasks_end_first() -> None:
    """Set the scheduling policy SCHED_BATCH, which the scheduler passes on to task supervisors and tasks.

    ``airflow.sdk.execution_time.supervisor.ActivitySubprocess`` wakes when its task closes its sockets. It
    checks once whether the process has ended (``_check_subprocess_exit``), and again only after
    `[workers] min_heartbeat_interval`. It may preempt the task as it wakes, and then the first check is too
    early: on two cores after a third of all short tasks. SCHED_BATCH processes do not preempt on wake-up.

    Remove it when Airflow waits for the end of the process itself, for example with a pidfd.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main(name: str) -> None:
    """Become the supervisor, or the component of that name, as the only one."""
    if name == "supervisord":
        from supervisor import options, supervisord

        options.normalize_path = str  # it would make the paths in its configuration absolute
        supervisord.main(["-c", str(CONFIG)])
    else:
        end(find(name))
        if name == "mlflow":
            _upgrade_mlflow()
        if name == "scheduler":
            _let_tasks_end_first()
        component = next(each for each in components(Ports.remembered()) if each.name == name)
        os.environ |= {COMPONENT: name, **component.environment}
        os.execv(component.command[0], component.command)


if __name__ == "__main__":
    main(sys.argv[1])
