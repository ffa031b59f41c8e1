"""The commands: ``up``, ``down``, ``status``, ``demo``, ``doctor``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from urllib.parse import urlsplit

import requests
import typer
from rich.console import Console
from rich.table import Table

from local_stack import airflow_settings, mlflow_login, object_store, settings, supervision
from local_stack import demo as demonstration
from local_stack.settings import LocalError
from local_stack.stack import Stack

RESTART_SECONDS = 30  # for a component that was just restarted; an idle machine needs five

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)


@app.command()
def up() -> None:
    """Start Airflow and MLflow; return when both respond."""
    stack = Stack(console)
    stack.up()
    _print_addresses(stack)


@app.command()
def down() -> None:
    """Stop everything and keep the data."""
    with console.status("Stopping"):
        stopped = Stack(console).down()
    console.print("Stopped" if stopped else "Nothing was running")


@app.command()
def status() -> None:
    """Show what runs and where; the exit code is 1 if something is wrong."""
    stack = Stack(console)
    if not stack.supervisor:
        leftovers = supervision.find()
        problem = "The supervisor was killed" if leftovers else "Nothing is running"
        console.print(f"{problem}. Run `make up` to start everything.")
        raise typer.Exit(bool(leftovers))
    deadline = time.monotonic() + RESTART_SECONDS
    with console.status("Waiting for components that are starting"):
        states = stack.states()
        while any(state.is_starting for state in states) and time.monotonic() < deadline:
            time.sleep(0.5)
            states = stack.states()
    table = Table("component", "state", "pid", "address", "uptime", "memory", box=None)
    for state in states:
        name, port = state.component.name, state.component.port
        address = f"http://localhost:{port}" if port else ""
        uptime = str(timedelta(seconds=int(time.time() - state.started))) if state.pid else ""
        memory = f"{supervision.memory(name) / 2**20:.0f} MiB"
        table.add_row(name, state.state, str(state.pid), address, uptime, memory)
    console.print(table)
    raise typer.Exit(any(state.state != "up" for state in states))


@app.command()
def demo() -> None:
    """Start everything, run the lessons and the pipeline, and check the results in MLflow."""
    stack = Stack(console)
    stack.up()
    # With another MLflow, the demo queries it through Airflow's connection, which is in .env.
    os.environ.update(supervision.environment() | settings.read_env_file())
    try:
        demonstration.run(console, stack.ports)
    except KeyboardInterrupt:
        sys.exit(
            "Interrupted. The stack is still up and the DAG runs continue; `make down` stops everything."
        )
    finally:
        _print_addresses(stack)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def doctor(context: typer.Context) -> None:
    """Find out why artifacts get lost between Airflow and MLflow. Options go to the doctor, e.g. --json."""
    if not (settings.AIRFLOW_HOME / "airflow.db").exists():  # Airflow would create it without connections
        raise LocalError("Nothing to examine, because nothing was started yet. Run `make up` first.")
    command = [sys.executable, "-m", "mlflow_provider.doctor", *context.args]
    environment = {**supervision.environment(), **settings.read_env_file()}
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)


def _print_addresses(stack: Stack) -> None:
    console.print(f"\nAirflow  http://localhost:{stack.ports.airflow}")
    if own := airflow_settings.own_mlflow():
        name = airflow_settings.MLFLOW_VARIABLE
        address = own["host"] if urlsplit(own["host"]).port else f"{own['host']}:{own['port']}"
        console.print(f"MLflow   {address}  ({name} in .env)")
    else:
        file = mlflow_login.PASSWORD.relative_to(settings.ROOT)
        login = f"  (login: {mlflow_login.USER}, password: in {file})" if mlflow_login.is_on() else ""
        console.print(f"MLflow   http://localhost:{stack.ports.mlflow}{login}")
    if console_port := stack.ports.minio_console:
        login = f"login and password: {object_store.CONN_ID} in {airflow_settings.FILE.name}"
        name = object_store.NAMES[object_store.kind(object_store.PROGRAM.resolve())]
        console.print(f"{name:<8} http://localhost:{console_port}  ({login})")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C, which cleans up
    settings.apply_env_file()
    try:
        app()
    except (LocalError, requests.RequestException) as error:
        sys.exit(str(error))
