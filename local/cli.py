"""The commands: ``up``, ``down``, ``status``, ``demo``."""

from __future__ import annotations

import signal
import sys
import time
from datetime import timedelta

import requests
import typer
from rich.console import Console
from rich.table import Table

from local import connections, minio, processes, stack, supervision
from local import demo as demonstration
from local.settings import LocalError, Ports

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)


@app.command()
def up() -> None:
    """Start Airflow and MLflow; returns when both answer."""
    _print_addresses(stack.up(console))


@app.command()
def down() -> None:
    """Stop everything; the data stays."""
    with console.status("Stopping"):
        stopped = stack.down()
    console.print("Stopped" if stopped else "Nothing was running")


@app.command()
def status() -> None:
    """Show what runs, and where; the exit code is 0 if everything is up."""
    supervisor = supervision.connect()
    if not supervisor:
        console.print("The supervisor was killed" if processes.find() else "Down", end="; ")
        console.print("`make up` starts everything")
        raise typer.Exit(1)
    states = stack.states(supervisor, supervision.ports_of(supervisor))
    table = Table("component", "state", "pid", "address", "uptime", "memory", box=None)
    for state in states:
        port = state.component.port
        table.add_row(
            state.component.name,
            state.state,
            str(state.pid),
            f"http://localhost:{port}" if port else "",
            str(timedelta(seconds=int(time.time() - state.started))) if state.pid else "",
            f"{processes.memory(state.component.name) / 2**20:.0f} MiB",
        )
    console.print(table)
    raise typer.Exit(any(state.state != "up" for state in states))


@app.command()
def demo() -> None:
    """Start everything, run the four example DAGs, check what arrived in MLflow."""
    ports = stack.up(console)
    demonstration.run(console, ports)
    _print_addresses(ports)


def _print_addresses(ports: Ports) -> None:
    console.print(f"\nAirflow  http://localhost:{ports.airflow}")
    console.print(f"MLflow   http://localhost:{ports.mlflow}")
    if ports.minio:
        console.print(
            f"MinIO    http://localhost:{ports.minio_console}  "
            f"(login and password: {minio.CONN_ID} in {connections.FILE.name})"
        )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does: nothing half-started stays
    try:
        app()
    except (LocalError, requests.RequestException) as error:
        sys.exit(str(error))
