"""The process supervisor: what it runs, how to start it, and how to talk to it.

A process of the stack is identified by variables in its environment. Process IDs and groups are not enough:
when a parent is killed, its children live on and keep its port. Therefore every component is started by this
module,
which first ends what is left of an earlier process::

    python -m local_stack.supervision mlflow
"""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil

from local_stack import airflow_settings, mlflow_login, object_store, settings
from local_stack.ports import Ports
from local_stack.settings import LocalError

STACK = "LOCAL_STACK"  # the clone that a process belongs to
COMPONENT = "LOCAL_STACK_COMPONENT"  # its component; the supervisor has none
CONFIG = settings.LOCAL / "supervisor.conf"
PROGRAMS = settings.LOCAL / "bin"
# Relative to the project, where every process runs, because a URI must be quoted and a path need not be.
MLFLOW_DATABASE = f"sqlite:///{settings.DATA.relative_to(settings.ROOT)}/mlflow/mlflow.db"
# Without a per cent sign in its path, which breaks MLflow's migrations.
MLFLOW = Path(
    "/proc/self/cwd" if "%" in str(settings.ROOT) else settings.ROOT,
    settings.MLFLOW_VENV.relative_to(settings.ROOT),
    "bin",
    "python",
)


@dataclass(frozen=True)
class Component:
    """A program of the stack: its command, the port for a browser, and how to stop it."""

    name: str
    command: list[Any]  # paths and words
    environment: dict[str, str] = field(repr=False)
    port: int | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 10  # until it is killed


def components(ports: Ports) -> list[Component]:
    """List the components in the order in which they start.

    :raises LocalError: the object store has no login.
    """
    # Only MinIO and MLflow get the keys of the object store, and only MLflow its administrator's password:
    # no task finds them in its environment.
    minio = [_minio(ports)] if ports.minio else []
    mlflow = [_mlflow(ports)] if ports.mlflow else []
    return [*minio, *mlflow, *_airflow(ports)]


def _minio(ports: Ports) -> Component:
    address, console = f"127.0.0.1:{ports.minio}", f"127.0.0.1:{ports.minio_console}"
    if object_store.kind(object_store.PROGRAM.resolve()) == "versitygw":
        options = [f"--port={address}", f"--webui={console}", f"--health={object_store.HEALTH}"]
        options += [f"--cors-allow-origin=http://localhost:{ports.minio_console}", "posix"]
    else:
        options = ["server", f"--address={address}", f"--console-address={console}"]
        options += [f"--certs-dir={settings.LOCAL / 'minio-certificates'}"]  # the default is in HOME
    command = [object_store.PROGRAM, *options, object_store.HOME]
    return Component("minio", command, object_store.environment(ports), ports.minio_console)


def _mlflow(ports: Ports) -> Component:
    on_disk = object_store.ON_DISK.relative_to(settings.ROOT)
    destination = f"s3://{object_store.BUCKET.name}" if ports.minio else on_disk
    command = [MLFLOW, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={ports.mlflow}", "--workers=1"]
    command += [f"--backend-store-uri={MLFLOW_DATABASE}", f"--artifacts-destination={destination}"]
    command += [f"--allowed-hosts=localhost:{ports.mlflow},127.0.0.1:{ports.mlflow}"]
    variables = object_store.environment(ports) if ports.minio else {}
    if mlflow_login.is_on():
        command += ["--app-name=basic-auth"]
        variables |= mlflow_login.environment()
    return Component("mlflow", command, variables, ports.mlflow)


def _airflow(ports: Ports) -> list[Component]:
    variables = settings.read_env_file()
    if mlflow := airflow_settings.own_mlflow():
        # Equal to the connection in Airflow's list, because Airflow refuses to test another address.
        variables[airflow_settings.MLFLOW_VARIABLE] = json.dumps(mlflow)

    def component(name: str, *options: str, **fields: Any) -> Component:
        return Component(name, [settings.AIRFLOW, name, *options], variables, **fields)

    # --skip-serve-logs: log servers would listen on all interfaces, and the logs are on this disk.
    return [
        component("api-server", port=ports.airflow),
        # On INT the scheduler stops the running tasks, and the next start retries them. On TERM it would wait
        # until they have finished.
        component("scheduler", "--skip-serve-logs", stop_signal="INT"),
        component("dag-processor"),
        # It often does not notice that its child has ended. Its state is in the database.
        component("triggerer", "--skip-serve-logs", stop_seconds=3),
    ]


def environment() -> dict[str, str]:
    """Return the environment of every process of the stack."""
    # Tasks find `python`, `mlflow` and `uv` there, as in an activated environment.
    folders = [settings.VENV / "bin", PROGRAMS, os.environ.get("PATH", os.defpath)]
    return {
        **settings.package_index(),
        **os.environ,
        "PATH": os.pathsep.join(map(str, folders)),
        STACK: str(settings.ROOT),
        # Otherwise processes that change their title overwrite the environment that identifies them.
        "SPT_NOENV": "1",
        "AIRFLOW_HOME": str(settings.AIRFLOW_HOME),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a dozen processes for features not used here
        "DO_NOT_TRACK": "true",
        "GIT_PYTHON_REFRESH": "quiet",  # no warning by MLflow about a missing git
        "MPLCONFIGDIR": str(settings.DATA / "matplotlib"),  # the default for its list of fonts is in HOME
    }


def link_programs() -> None:
    """Link the programs with which ``@task.virtualenv`` creates an environment.

    It calls ``uv venv --python python``, and uv ignores a ``python`` of a virtual environment.
    """
    PROGRAMS.mkdir(exist_ok=True)
    for name, program in (("python", sys.executable), ("uv", settings.LOCAL / "uv" / "bin" / "uv")):
        (PROGRAMS / name).unlink(missing_ok=True)
        (PROGRAMS / name).symlink_to(Path(program).resolve())


def write_config(ports: Ports) -> None:
    """Write supervisord's configuration. All its paths are relative to the project."""
    python, local, logs = (
        path.relative_to(settings.ROOT)
        for path in (settings.VENV / "bin" / "python", settings.LOCAL, settings.LOGS)
    )
    interface = "supervisor.rpcinterface:make_main_rpcinterface"
    config = configparser.RawConfigParser()
    config["unix_http_server"] = {"file": str(settings.SOCKET)}
    config["rpcinterface:supervisor"] = {"supervisor.rpcinterface_factory": interface}
    config["supervisord"] = {
        "nodaemon": "true",
        "silent": "true",
        "logfile": f"{logs}/supervisord.log",
        "pidfile": f"{local}/supervisord.pid",
        "childlogdir": str(logs),
    }
    for component in components(ports):
        config[f"program:{component.name}"] = {
            "command": f"{python} -m local_stack.supervision {component.name}",
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "20",
            "startretries": "100",
            "stopsignal": component.stop_signal,
            "stopwaitsecs": str(component.stop_seconds),
            "stopasgroup": "true",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": f"{logs}/{component.name}.log",
            "stdout_logfile_maxbytes": "5MB",
            "stdout_logfile_backups": "1",
        }
    with CONFIG.open("w") as file:
        config.write(file)


def start(ports: Ports) -> Any:
    """Start supervisord without any component, and return its interface.

    :raises LocalError: it does not respond within 30 seconds.
    """
    write_config(ports)
    log_file = settings.LOGS / "supervisord.log"
    with log_file.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local_stack.supervision", "supervisord"],
            cwd=settings.ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that Ctrl-C in this terminal does not reach it
        )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if supervisor := connect():
            return supervisor
        time.sleep(0.05)
    raise LocalError("The process supervisor did not start.", log_file.read_text())


def connect() -> Any:
    """Return the interface of the running supervisor; None if there is no supervisor.

    .. seealso:: http://supervisord.org/api.html
    """
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(serverurl=f"unix://{settings.SOCKET}")
    proxy = ServerProxy("http://localhost", transport=transport)
    try:
        proxy.supervisor.getState()
    except (OSError, Fault):  # a Fault: it is shutting down
        return None
    return proxy.supervisor


def find(component: str | None = None) -> list[psutil.Process]:
    """Return the running processes of this clone's stack, or of one component."""
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or belongs to another user
            variables = process.environ()
            if variables.get(STACK) == str(settings.ROOT) and component in (None, variables.get(COMPONENT)):
                processes.append(process)
    return processes


def end(processes: list[psutil.Process], timeout: float = 3) -> None:
    """Terminate the processes, and kill those that are still alive after ``timeout`` seconds."""
    for stop in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                stop(process)
        processes = wait(processes, timeout)


def wait(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until the processes have ended, and return those still alive after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while processes and time.monotonic() < deadline:
        time.sleep(0.05)
        # psutil.wait_procs would wait for zombies, which stay where nothing reaps them, as in many
        # containers.
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
            # PSS, which only Linux has, counts shared memory once; USS does not count it.
            total += getattr(used, "pss", used.uss)
    return total


def _upgrade_mlflow() -> None:
    """Upgrade the database of an older MLflow, because the installed server would reject it."""
    version = next(settings.MLFLOW_VENV.glob("lib/python*/site-packages/mlflow-*.dist-info")).name
    database, stamp = settings.MLFLOW_HOME / "mlflow.db", settings.MLFLOW_HOME / "upgraded-to"
    if database.exists() and not (stamp.exists() and stamp.read_text() == version):
        backup = database.with_name(f"before-{version}.db")
        if not backup.exists():  # otherwise an upgrade was interrupted, and the database is half upgraded
            shutil.copy(database, backup)
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
    """Become the supervisor, or the only process of a component."""
    if name == "supervisord":
        from supervisor import options, supervisord

        options.normalize_path = str  # keeps the paths in its configuration relative
        supervisord.main(["-c", str(CONFIG)])
    else:
        end(find(name))
        if name == "mlflow":
            _upgrade_mlflow()
        if name == "scheduler":
            _let_tasks_end_first()
        component = next(each for each in components(Ports.load()) if each.name == name)
        os.environ |= {COMPONENT: name, **component.environment}
        os.execv(component.command[0], component.command)


if __name__ == "__main__":
    main(sys.argv[1])
