"""Bring the stack up, tell how it is, and bring it down again."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass
from functools import partial
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

STARTED_FROM = settings.LOCAL / "started-from"  # the version of what the processes run from
PATIENCE = 300  # seconds for the components to answer; on an idle machine a twentieth of it is enough
DAG_PATIENCE = 60  # seconds for the DAG files to be read

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
    settings.LOCAL.mkdir(exist_ok=True)
    with (settings.LOCAL / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another `make up` or `make down` to end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Stack:
    """Airflow, MLflow and, where there is one, MinIO, as they run from this clone.

    :param console: where to tell what goes on.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.ports = ports.Ports.remembered()
        self.supervisor = supervision.connect()  # None: nothing runs

    @_alone()
    def up(self) -> None:
        """Start what does not run yet, and return when everything answers.

        :raises LocalError: a port is taken, ``airflow_settings.yaml`` is wrong, or a component does not come
            up; what this call started is stopped again.
        """
        self.supervisor = supervision.connect()
        if self.supervisor and not (STARTED_FROM.exists() and STARTED_FROM.read_text() == self._version()):
            self.console.print("The project has changed since the stack was started; restarting it")
            self._stop()
        if not self.supervisor:
            self._start()
            return
        used = asdict(self.ports)
        if any((used[name] or port) != port for name, port in ports.named(free=False).items()):
            chosen = " ".join(f"{variable}={port}" for variable, port in self.ports.variables().items())
            raise LocalError(f"Already up, with {chosen}; for other ports, `make down` first.")
        if (wanted := settings.setting("MINIO")) is not None and bool(wanted) != bool(self.ports.minio):
            place = "in MinIO" if self.ports.minio else "on the disk"
            raise LocalError(f"Already up, with the artifacts {place}; to change that, `make down` first.")
        if (wanted_login := mlflow_login.wanted()) is not None and wanted_login != mlflow_login.is_on():
            how = "with" if mlflow_login.is_on() else "without"
            raise LocalError(f"Already up, {how} a login on MLflow; to change that, `make down` first.")
        self.console.print("Already up")
        self._bring_up(GIVEN_UP)

    def _start(self) -> None:
        supervision.end(supervision.find())  # what a killed supervisor left behind
        program = object_store.choose()
        self.ports, said = ports.choose(with_minio=bool(program))
        for line in said:
            self.console.print(line)
        supervision.components(self.ports)  # raises what is wrong with airflow_settings.yaml
        settings.DATA.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(settings.TEMPORARY, ignore_errors=True)
        for folder in (settings.LOGS, settings.TEMPORARY, settings.AIRFLOW_HOME, settings.MLFLOW_HOME):
            folder.mkdir(parents=True, exist_ok=True)
        mlflow_login.prepare()
        if program:
            object_store.prepare(program)
        self.ports.remember()
        STARTED_FROM.write_text(self._version())
        airflow_home.write_config(self.ports)
        try:
            self.supervisor = supervision.start(self.ports)
            self._bring_up(ENDED)
        except BaseException:  # Ctrl-C, too
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # and pressed twice
            with self.console.status("Stopping what was started"):
                self._stop()
            raise

    @_alone()
    def down(self) -> bool:
        """Stop everything, and return whether there was anything to stop. The data stays."""
        return self._stop()

    def _stop(self) -> bool:
        supervisor, self.supervisor = supervision.connect(), None
        if supervisor:
            # First, while the api-server is there for the running tasks to report how they ended.
            supervisor.stopProcessGroup("scheduler")
            supervisor.stopAllProcesses(False)  # False: all at once
            supervisor.shutdown()
            supervision.wait(supervision.find(), patience=30)
        leftovers = supervision.find()
        supervision.end(leftovers)
        shutil.rmtree(settings.TEMPORARY, ignore_errors=True)
        return bool(supervisor or leftovers)

    def states(self) -> list[State]:
        """Return how every component is."""
        heard = self._last_heard()
        processes = {info["name"]: info for info in self.supervisor.getAllProcessInfo()}
        found = []
        for component in supervision.components(self.ports):
            info = processes.get(component.name, {"statename": "missing", "pid": 0, "start": 0})
            state = info["statename"].lower()
            # A sign of life from before the start came from an earlier process.
            if state in ("starting", "running") and heard.get(component.name, 0) >= info["start"]:
                state = "up"
            found.append(State(component, state, info["pid"], info["start"]))
        return found

    def _last_heard(self) -> dict[str, float]:
        """Return when each component last gave a sign of life, in seconds since the epoch."""
        heard = {}
        if self.ports.minio and object_store.answers(self.ports):
            heard["minio"] = time.time()
        with suppress(requests.RequestException):
            # Not /health: it is green even where the API refuses to answer.
            url = f"http://127.0.0.1:{self.ports.mlflow}/api/2.0/mlflow/experiments/search"
            answer = requests.post(url, json={"max_results": 1}, auth=mlflow_login.credentials(), timeout=5)
            if answer.status_code != requests.codes.unauthorized:  # of a password that was changed in MLflow
                answer.raise_for_status()
            heard["mlflow"] = time.time()
        with suppress(requests.RequestException):
            api = AirflowApi(self.ports.airflow)
            api.prepare_for_tasks()
            heard.update(api.heartbeats())
            heard["api-server"] = time.time()
        return heard

    def _bring_up(self, lost: Collection[str]) -> None:
        """Start the components that do not run, and wait until the whole can be used.

        :param lost: the states of a component that is not worth waiting for.
        """
        wanted = airflow_settings.read(self.ports)
        names = [component.name for component in supervision.components(self.ports)]
        self._start_components(name for name in names if name in ("minio", "mlflow"))
        with self.console.status("Preparing Airflow's database"):  # for which those two need not wait
            airflow_home.migrate()
        self._start_components(names)
        if missing := wait_for(self.console, lambda: self._silent(lost), PATIENCE):
            raise _failure(missing[0], f"has not answered within {PATIENCE} s")

        api = AirflowApi(self.ports.airflow)
        api.log_in()
        for kind, entities in wanted.items():
            if problems := api.create_or_replace(kind, entities):
                raise LocalError(f"Airflow does not take the {kind} of airflow_settings.yaml: {problems}")

        duplicates = duplicate_dag_ids(settings.DAGS)
        for dag_id, files in duplicates.items():
            places = " and ".join(f"dags/{file}" for file in files)
            problem = f"have the same DAG ID {dag_id}, and Airflow shows one of them; rename the function"
            self.console.print(f"{places} {problem}", style="yellow")
        unread = partial(_unread, api, set(chain.from_iterable(duplicates.values())))
        for file in wait_for(self.console, unread, DAG_PATIENCE, "has been read"):
            self.console.print(f"dags/{file}: Airflow has found no DAG in it", style="yellow")
        for error in api.import_errors():
            self.console.print(f"dags/{error['filename']}: Airflow cannot import it", style="red")
            self.console.print(error["stack_trace"], markup=False)

    def _version(self) -> str:
        """Return a hash of what the processes run from: the project, its packages, settings and keys."""
        components = [astuple(component) for component in supervision.components(self.ports)]
        return hashlib.sha256(repr((install.version(), components)).encode()).hexdigest()

    def _start_components(self, names: Iterable[str]) -> None:
        for name in names:
            if self.supervisor.getProcessInfo(name)["statename"] in ("STOPPED", "EXITED", "FATAL"):
                self.supervisor.startProcess(name, False)  # False: without waiting

    def _silent(self, lost: Collection[str]) -> list[str]:
        """Return the components that are not up.

        :raises LocalError: one of them is lost.
        """
        states = self.states()
        for state in states:
            if state.state in lost:
                raise _failure(state.component.name, "does not come up")
        return [state.component.name for state in states if state.state != "up"]


def _failure(component: str, what: str) -> LocalError:
    log = settings.LOGS / f"{component}.log"
    return LocalError(f"{component} {what}; {log} ends:", log.read_text(errors="replace"))


def _unread(api: AirflowApi, ignored: Collection[str]) -> list[str]:
    """Return the DAG files that Airflow has not read since they were last changed.

    :param ignored: files of which Airflow does not say whether it has read them.
    """
    parsed = api.parsed()
    return [
        name
        for file in sorted(settings.DAGS.rglob("*.py"))
        if (name := str(file.relative_to(settings.DAGS))) not in ignored
        and parsed.get(name, 0) < file.stat().st_mtime
        # By these words Airflow tells a DAG file from any other.
        and all(word in file.read_bytes().lower() for word in (b"airflow", b"dag"))
    ]
