"""Bring the stack up, tell how it is, and bring it down again."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import requests

from local import airflow_home, connections, minio, processes, supervision
from local.airflow_api import AirflowApi
from local.settings import (
    AIRFLOW_HOME,
    DAGS,
    DATA,
    LOCAL,
    LOGS,
    MINIO,
    MLFLOW_HOME,
    WITH_MINIO,
    LocalError,
    Ports,
)
from local.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from rich.console import Console

PATIENCE = 180  # seconds for the components to answer; on an idle machine a tenth of it is enough
DAG_PATIENCE = 30  # seconds for the DAG files to be read

# The supervisor starts again what has ended. In a stack that was up, that is worth waiting for.
GIVEN_UP = ("fatal",)
ENDED = ("backoff", "exited", "fatal")


@dataclass(frozen=True)
class State:
    """How a component is: ``up`` if it was heard from, otherwise what the supervisor says of its process."""

    component: supervision.Component
    state: str
    pid: int  # 0 if it does not run
    started: float  # seconds since the epoch


@contextmanager
def _alone() -> Iterator[None]:
    """Let a second ``up`` or ``down`` of this clone wait until this one is done."""
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another `make up` or `make down` to end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@_alone()
def up(console: Console) -> Ports:
    """Start what does not run yet, wait until everything answers, and return the ports it answers on.

    :raises LocalError: a port is taken, ``airflow_settings.yaml`` is wrong, or a component does not come up;
        what this call started is stopped again.
    """
    if supervisor := supervision.connect():
        ports = supervision.ports_of(supervisor)
        if Ports.from_environment(ports) != ports:
            used = " ".join(f"{variable}={port}" for variable, port in ports.variables().items())
            raise LocalError(f"Already up, with {used}; for other ports, `make down` first.")
        if (wanted := os.environ.get("MINIO")) is not None and bool(wanted) != bool(ports.minio):
            place = "in MinIO" if ports.minio else "on the disk"
            raise LocalError(f"Already up, with the artifacts {place}; to change that, `make down` first.")
        console.print("Already up")
        _bring_up(console, supervisor, ports, connections.read(ports), GIVEN_UP)
        return ports

    program = minio.choose(console)
    ports = Ports.from_environment(WITH_MINIO if program else None)
    settings = connections.read(ports)
    processes.end(processes.find())  # what a killed supervisor left behind
    for variable, port in ports.variables().items():
        _check_free(port, variable)
    DATA.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (LOGS, AIRFLOW_HOME, MLFLOW_HOME):
        folder.mkdir(parents=True, exist_ok=True)
    if program:
        MINIO.unlink(missing_ok=True)
        MINIO.symlink_to(program)
    airflow_home.write_config(ports)
    try:
        _bring_up(console, supervision.start(ports), ports, settings, ENDED)
    except BaseException:  # Ctrl-C, too
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # and pressed twice
        with console.status("Stopping what was started"):
            _stop()
        raise
    return ports


@_alone()
def down() -> bool:
    """Stop everything, and return whether there was anything to stop. The data stays."""
    return _stop()


def _stop() -> bool:
    supervisor = supervision.connect()
    if supervisor:
        # First, while the api-server is there for the running tasks to report how they ended.
        supervisor.stopProcessGroup("scheduler")
        supervisor.stopAllProcesses(False)  # False: all at once
        supervisor.shutdown()
        processes.wait(processes.find(), patience=30)
    leftovers = processes.find()
    processes.end(leftovers)
    return bool(supervisor or leftovers)


def states(supervisor: Any, ports: Ports) -> list[State]:
    """Return how every component is."""
    heard = _last_heard(ports)
    found = []
    for component in supervision.components(ports):
        info = supervisor.getProcessInfo(component.name)
        state = info["statename"].lower()
        # A sign of life from before the start came from an earlier process.
        if state in ("starting", "running") and heard.get(component.name, 0) >= info["start"]:
            state = "up"
        found.append(State(component, state, info["pid"], info["start"]))
    return found


def _last_heard(ports: Ports) -> dict[str, float]:
    """Return when each component last gave a sign of life, in seconds since the epoch."""
    heard = {}
    if ports.minio and minio.answers(ports):
        heard["minio"] = time.time()
    with suppress(requests.RequestException):
        # Not /health: it is green even where the API refuses to answer.
        url = f"http://127.0.0.1:{ports.mlflow}/api/2.0/mlflow/experiments/search"
        requests.post(url, json={"max_results": 1}, timeout=5).raise_for_status()
        heard["mlflow"] = time.time()
    with suppress(requests.RequestException):
        heard.update(AirflowApi(ports.airflow).heartbeats())
        heard["api-server"] = time.time()
    return heard


def _bring_up(
    console: Console,
    supervisor: Any,
    ports: Ports,
    settings: dict[str, list[dict[str, Any]]],
    hopeless: Collection[str],
) -> None:
    """Start the components that do not run, and wait until the whole can be used.

    :param hopeless: the states of a component that is not worth waiting for.
    """
    if ports.minio:
        _start(supervisor, "minio")
        _wait(console, supervisor, ports, hopeless, ["minio"])
        minio.make_bucket(ports)
    _start(supervisor, "mlflow")  # which need not wait for Airflow's database
    with console.status("Preparing Airflow's database"):
        airflow_home.migrate()
    names = [component.name for component in supervision.components(ports)]
    for name in names:
        _start(supervisor, name)
    _wait(console, supervisor, ports, hopeless, names)

    api = AirflowApi(ports.airflow)
    api.log_in()
    for kind, entities in settings.items():
        if problems := api.create_or_replace(kind, entities):
            raise LocalError(f"Airflow does not take the {kind} of airflow_settings.yaml: {problems}")

    for file in wait_for(console, lambda: _unread(api), DAG_PATIENCE, "has been read"):
        console.print(f"dags/{file}: Airflow has found no DAG in it", style="yellow")
    for error in api.import_errors():
        console.print(f"dags/{error['filename']}: Airflow cannot import it", style="red")
        console.print(error["stack_trace"], markup=False)


def _start(supervisor: Any, name: str) -> None:
    if supervisor.getProcessInfo(name)["statename"] in ("STOPPED", "EXITED", "FATAL"):
        supervisor.startProcess(name, False)  # False: without waiting


def _wait(
    console: Console, supervisor: Any, ports: Ports, hopeless: Collection[str], names: Collection[str]
) -> None:
    """Wait until these components are up.

    :raises LocalError: one of them is in a hopeless state, or silent for too long.
    """

    def silent() -> list[str]:
        waiting = [
            state
            for state in states(supervisor, ports)
            if state.component.name in names and state.state != "up"
        ]
        for state in waiting:
            if state.state in hopeless:
                raise _failure(state.component.name, "does not come up")
        return [state.component.name for state in waiting]

    if missing := wait_for(console, silent, PATIENCE):
        raise _failure(missing[0], f"has not answered within {PATIENCE} s")


def _failure(component: str, what: str) -> LocalError:
    log = supervision.log_of(component)
    return LocalError(f"{component} {what}; {log} ends:", log.read_text(errors="replace"))


def _unread(api: AirflowApi) -> list[str]:
    """Return the DAG files that Airflow has not read since they were last changed."""
    parsed = api.parsed()
    return [
        name
        for file in sorted(DAGS.rglob("*.py"))
        if parsed.get(name := str(file.relative_to(DAGS)), 0) < file.stat().st_mtime
        # By these words Airflow tells a DAG file from any other.
        and all(word in file.read_bytes().lower() for word in (b"airflow", b"dag"))
    ]


def _check_free(port: int, variable: str) -> None:
    """Make sure that nobody listens on the port.

    :raises LocalError: somebody does.
    """
    # By connecting: macOS would let us bind 127.0.0.1 beside a program that listens on all addresses, as
    # AirPlay does on port 5000, and a browser would then reach one or the other.
    for address in ("127.0.0.1", "::1"):
        with suppress(OSError), socket.create_connection((address, port), timeout=1):
            another = f"{variable}={port + 1} make up"
            raise LocalError(f"Port {port} is taken{_holder(port)}; to use another one: {another}")


def _holder(port: int) -> str:
    """Name the process that listens on the port, as far as this user may know."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return f" by {process.name()} (process {process.pid})"
    return ""
