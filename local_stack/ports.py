"""The TCP ports of the stack. Standard library only: they are checked before anything is installed."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from local_stack.settings import LOCAL, LocalError

FILE = LOCAL / "ports.json"


@dataclass(frozen=True)
class Ports:
    """Ports on loopback; None for what does not run: MinIO, or MLflow if ``.env`` names another server."""

    airflow: int = 8080
    mlflow: int | None = 5000
    minio: int | None = None
    minio_console: int | None = None

    @classmethod
    def load(cls) -> Ports:
        """Return the ports of the running stack, or of the last one, or the defaults."""
        return cls(**json.loads(FILE.read_text())) if FILE.exists() else cls()

    def save(self) -> None:
        """Save the ports for the next start."""
        FILE.write_text(json.dumps(asdict(self)))

    def variables(self) -> dict[str, int]:
        """Return the ports in use by the variables that set them."""
        return {variable(service): port for service, port in asdict(self).items() if port}


WITH_MINIO = Ports(minio=9000, minio_console=9001)


def variable(service: str) -> str:
    """Return the variable that sets a port, e.g. ``MINIO_CONSOLE_PORT`` for ``minio_console``."""
    return f"{service.upper()}_PORT"


def read_settings(*, check_free: bool) -> dict[str, int]:
    """Return the ports that the environment sets, by service.

    :param check_free: reject a port that another program uses.
    :raises LocalError: a port is invalid, in use, or set twice.
    """
    ports: dict[str, int] = {}
    for service in asdict(WITH_MINIO):
        name = variable(service)
        if not (value := os.environ.get(name)):
            continue
        if not value.isdecimal() or not 0 < int(value) < 65536:
            raise LocalError(f"{name}={value} is not a valid port. Choose one from 1024 to 65535.")
        for other, port in ports.items():
            if port == int(value):
                raise LocalError(
                    f"{variable(other)} and {name} are both {value}. Choose two different ports."
                )
        if check_free and is_taken(int(value)):
            raise LocalError(f"{name}={value}: that port is taken. Choose another, or unset {name}.")
        ports[service] = int(value)
    return ports


def choose(defaults: Ports) -> tuple[Ports, list[str]]:
    """Choose free ports: those in the settings, otherwise the last ones, otherwise the next free ones.

    :param defaults: the ports to begin with; None for what does not run.
    :return: the ports, and a message for each port that changed.
    :raises LocalError: a port in the settings cannot be used.
    """
    ports, messages = read_settings(check_free=True), []
    last = {service: port for service, port in asdict(Ports.load()).items() if port}
    needed = {service: port for service, port in asdict(defaults).items() if port}
    for service, default in needed.items():
        if service in ports:
            continue
        expected = port = last.get(service, default)
        while port in ports.values() or is_taken(port):
            port += 1
        if port != expected:
            messages.append(f"Port {expected} is taken; using {variable(service)}={port} from now on")
        ports[service] = port
    return replace(defaults, **{service: ports[service] for service in needed}), messages


def is_taken(port: int) -> bool:
    """Return whether another program listens on the port."""
    # By connecting: macOS allows binding 127.0.0.1 even if another program listens on all addresses, as
    # AirPlay does on port 5000, and a browser would then reach either of the two.
    for address in ("127.0.0.1", "::1"):
        with suppress(OSError), socket.create_connection((address, port), timeout=1):
            return True
    return False
