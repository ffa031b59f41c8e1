"""Start and stop the stack, and report its state."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass
from itertools import chain
from typing import TYPE_CHECKING

import requests

from local_stack import (
    airflow_home,
    airflow_settings,
    install,
    mlflow_login,
    object_store,
    ports,
    settings,
    supervision,
)
from local_stack.airflow_api import AirflowApi
from local_stack.dag_files import duplicate_dag_ids
from local_stack.settings import LocalError
from local_stack.waiting import wait_for

if TYPE_CHECKING:
    from rich.console import Console

VERSION = settings.LOCAL / "started-from"  # the version of the project that runs
TIMEOUT = 300  # seconds for the components to respond; an idle machine needs a twentieth
DAG_TIMEOUT = 60  # seconds for the DAG files to be parsed

# States of the supervisor in which a component has failed. In a stack that was up, the supervisor is given
# time to restart one that has ended.
FAILED_WHILE_UP = ("fatal",)
FAILED_AT_START = ("backoff", "exited", "fatal")


@dataclass(frozen=True)
class State:
    """The state of a component: ``up`` if it responds, otherwise the supervisor's state of its process."""

    component: supervision.Component
    state: str
    pid: int  # 0 if it does not run
    started: float  # seconds since the epoch

    @property
    def is_starting(self) -> bool:
        """Whether the component may be up soon: the supervisor restarts one that has ended."""
        return self.state not in ("up", "stopped", "fatal", "missing")


@contextmanager
def _lock() -> Iterator[None]:
    """Let a second ``up`` or ``down`` of this clone wait for the first."""
    settings.LOCAL.mkdir(exist_ok=True)
    settings.LOCAL.chmod(0o700)  # logs and databases are for no other user of this machine
    with (settings.LOCAL / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another `make up` or `make down` to finish", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Stack:
    """Airflow, MLflow and possibly MinIO, running from this clone.

    :param console: where to report progress.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.ports = ports.Ports.load()
        self.supervisor = supervision.connect()  # None if nothing runs

    @_lock()
    def up(self) -> None:
        """Start what does not run yet, and return when everything responds.

        :raises LocalError: a port is taken, ``airflow_settings.yaml`` is invalid, or a component fails. In
            that case, everything that this call started is stopped again.
        """
        env_file = settings.ROOT / ".env"
        if env_file.exists() and env_file.stat().st_mode & 0o044:
            advice = "Other users of this machine can read .env. Run `chmod 600 .env`."
            self.console.print(advice, style="yellow")
        self.supervisor = supervision.connect()
        if self.supervisor and not (VERSION.exists() and VERSION.read_text() == self._version()):
            self.console.print("The project has changed since the stack was started; restarting it")
            self._stop()
        if not self.supervisor:
            self._start()
            return
        self._check_settings()
        self.console.print("Already up")
        self._start_missing(FAILED_WHILE_UP)

    def _check_settings(self) -> None:
        """Compare the settings with those of the running stack.

        :raises LocalError: a setting has changed.
        """
        changes = ports.read_settings(check_free=False).items() - asdict(self.ports).items()
        minio = os.environ.get("MINIO")
        if any(asdict(self.ports)[service] for service, _ in changes):
            state = "with " + " ".join(f"{name}={port}" for name, port in self.ports.variables().items())
        elif minio is not None and bool(minio) != bool(self.ports.minio):
            state = f"with artifacts {'in MinIO' if self.ports.minio else 'on disk'}"
        elif mlflow_login.read_setting() not in (None, mlflow_login.is_on()):
            state = f"{'with' if mlflow_login.is_on() else 'without'} a login on MLflow"
        else:
            return
        raise LocalError(f"Already up, {state}. To change that, run `make down` first.")

    def _start(self) -> None:
        self.console.print("Starting. This takes seconds, or minutes on a busy machine.")
        supervision.end(supervision.find())  # left over from a killed supervisor
        has_own_mlflow = bool(airflow_settings.own_mlflow())
        minio = None if has_own_mlflow else object_store.choose()
        if minio:
            object_store.prepare(minio)
        defaults = ports.WITH_MINIO if minio else ports.Ports(mlflow=None if has_own_mlflow else 5000)
        self.ports, messages = ports.choose(defaults)
        for message in messages:
            self.console.print(message)
        supervision.components(self.ports)  # raises what is wrong with airflow_settings.yaml
        shutil.rmtree(settings.TEMPORARY, ignore_errors=True)
        for folder in (settings.LOGS, settings.TEMPORARY, settings.AIRFLOW_HOME, settings.MLFLOW_HOME):
            folder.mkdir(parents=True, exist_ok=True)
        mlflow_login.prepare()
        self.ports.save()
        VERSION.write_text(self._version())
        airflow_home.write_config(self.ports)
        airflow_home.link_plugins()
        supervision.link_programs()
        try:
            self.supervisor = supervision.start(self.ports)
            self._start_missing(FAILED_AT_START)
        except BaseException:  # also KeyboardInterrupt
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # Ctrl-C pressed again must not stop the cleanup
            with self.console.status("Stopping what was started"):
                self._stop()
            raise

    @_lock()
    def down(self) -> bool:
        """Stop everything and keep the data; return whether anything was running."""
        return self._stop()

    def _stop(self) -> bool:
        supervisor, self.supervisor = supervision.connect(), None
        if supervisor:
            # First, while running tasks can report their end to the api-server.
            supervisor.stopProcessGroup("scheduler")
            supervisor.stopAllProcesses(False)  # False: all at once
            supervisor.shutdown()
            supervision.wait(supervision.find(), timeout=30)
        leftovers = supervision.find()
        supervision.end(leftovers)
        shutil.rmtree(settings.TEMPORARY, ignore_errors=True)
        return bool(supervisor or leftovers)

    def states(self) -> list[State]:
        """Return the state of every component."""
        heartbeats = self._heartbeats()
        processes = {info["name"]: info for info in self.supervisor.getAllProcessInfo()}
        states = []
        for component in supervision.components(self.ports):
            info = processes.get(component.name, {"statename": "missing", "pid": 0, "start": 0})
            state = info["statename"].lower()
            # A heartbeat from before the start came from an earlier process.
            if state in ("starting", "running") and heartbeats.get(component.name, 0) >= info["start"]:
                state = "up"
            states.append(State(component, state, info["pid"], info["start"]))
        return states

    def _heartbeats(self) -> dict[str, float]:
        """Return the time of each component's last heartbeat or response, in seconds since the epoch."""
        heartbeats = {}
        if self.ports.minio and object_store.is_ready(self.ports):
            heartbeats["minio"] = time.time()
        if self.ports.mlflow and _mlflow_responds(self.ports.mlflow):
            heartbeats["mlflow"] = time.time()
        with suppress(requests.RequestException):
            api = AirflowApi(self.ports.airflow)
            api.prepare_for_tasks()
            heartbeats.update(api.heartbeats())
            heartbeats["api-server"] = time.time()
        return heartbeats

    def _start_missing(self, failed: Collection[str]) -> None:
        """Start the components that do not run, and wait until the whole stack can be used.

        :param failed: states in which a component has failed.
        """
        entities = airflow_settings.read(self.ports)
        names = [component.name for component in supervision.components(self.ports)]
        self._start_components(name for name in names if name in ("minio", "mlflow"))
        with self.console.status("Preparing Airflow's database"):  # while those two start
            airflow_home.migrate()
        self._start_components(names)
        if missing := wait_for(self.console, lambda: self._find_missing(failed), TIMEOUT):
            raise _failure(missing[0], f"did not respond within {TIMEOUT} s")

        api = AirflowApi(self.ports.airflow)
        api.log_in()
        for kind, values in entities.items():
            if problems := api.create_or_replace(kind, values):
                raise LocalError(f"Airflow rejects {kind} of airflow_settings.yaml: {problems}")
        self._report_dag_files(api)

    def _start_components(self, names: Iterable[str]) -> None:
        for name in names:
            if self.supervisor.getProcessInfo(name)["statename"] in ("STOPPED", "EXITED", "FATAL"):
                self.supervisor.startProcess(name, False)  # False: do not wait

    def _find_missing(self, failed: Collection[str]) -> list[str]:
        """Return the components that are not up.

        :raises LocalError: a component has failed.
        """
        states = self.states()
        for state in states:
            if state.state in failed:
                raise _failure(state.component.name, "does not start")
        return [state.component.name for state in states if state.state != "up"]

    def _report_dag_files(self, api: AirflowApi) -> None:
        """Wait until the DAG files are parsed, and report what is wrong with them."""
        duplicates = duplicate_dag_ids(settings.DAGS)
        for dag_id, files in duplicates.items():
            names = " and ".join(f"dags/{file}" for file in files)
            advice = "Airflow shows only one of them. Rename the function in one file."
            self.console.print(f"{names} have the same DAG ID {dag_id}: {advice}", style="yellow")
        skipped = set(chain.from_iterable(duplicates.values()))  # Airflow reports only one of these files

        def find_unparsed() -> list[str]:
            parsed = api.parsed()
            return [
                name
                for file in sorted(settings.DAGS.rglob("*.py"))
                if (name := str(file.relative_to(settings.DAGS))) not in skipped
                and parsed.get(name, 0) < file.stat().st_mtime
                # Airflow skips files without these words.
                and all(word in file.read_bytes().lower() for word in (b"airflow", b"dag"))
            ]

        for name in wait_for(self.console, find_unparsed, DAG_TIMEOUT, "is parsed"):
            self.console.print(f"dags/{name}: no DAG found in this file", style="yellow")
        for error in api.import_errors():
            self.console.print(f"dags/{error['filename']}: Airflow cannot import this file", style="red")
            self.console.print(error["stack_trace"], markup=False)

    def _version(self) -> str:
        """Hash what the processes run from: the project, its packages, settings and keys."""
        components = [astuple(component) for component in supervision.components(self.ports)]
        return hashlib.sha256(repr((install.project_version(), components)).encode()).hexdigest()


def _mlflow_responds(port: int) -> bool:
    # Not /health, which is green even if the API rejects requests.
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search"
    try:
        response = requests.post(url, json={"max_results": 1}, auth=mlflow_login.credentials(), timeout=5)
    except requests.RequestException:
        return False
    return response.ok or response.status_code == requests.codes.unauthorized  # its password was changed


def _failure(component: str, problem: str) -> LocalError:
    log = settings.LOGS / f"{component}.log"
    if not log.exists():
        return LocalError(f"{component} {problem}, and has not logged anything yet.")
    return LocalError(f"{component} {problem}; {log} ends with:", log.read_text(errors="replace"))
