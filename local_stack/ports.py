"""Which TCP ports the stack listens on. Standard library only: checked before anything is installed."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass

from local_stack.settings import LOCAL, LocalError, setting

REMEMBERED = LOCAL / "ports.json"


@dataclass(frozen=True)
class Ports:
    """The ports, all of them on loopback; MinIO's are None where none runs."""

    airflow: int = 8080
    mlflow: int = 5000
    minio: int | None = None
    minio_console: int | None = None

    @classmethod
    def remembered(cls) -> Ports:
        """Return the ports of the running stack, or of the last one; the usual ones if there was none."""
        return cls(**json.loads(REMEMBERED.read_text())) if REMEMBERED.exists() else cls()

    def remember(self) -> None:
        """Keep the ports for the next start."""
        REMEMBERED.write_text(json.dumps(asdict(self)))

    def variables(self) -> dict[str, int]:
        """Return the ports that are in use, by the variables that choose them."""
        return {variable(name): port for name, port in asdict(self).items() if port}


WITH_MINIO = Ports(minio=9000, minio_console=9001)


def variable(name: str) -> str:
    """Return the variable that chooses a port, e.g. ``MINIO_CONSOLE_PORT`` for ``minio_console``."""
    return f"{name.upper()}_PORT"


def named(*, free: bool) -> dict[str, int]:
    """Return the ports that the shell or ``.env`` names.

    :param free: whether nobody may listen on them yet.
    :raises LocalError: a value is no port number, two are the same, or somebody listens on one.
    """
    ports: dict[str, int] = {}
    for name in asdict(WITH_MINIO):
        if not (value := setting(variable(name))):
            continue
        if not value.isdecimal() or not 0 < int(value) < 65536:
            raise LocalError(f"{variable(name)}={value} is no port number; choose one from 1024 to 65535.")
        for other, port in ports.items():
            if port == int(value):
                raise LocalError(f"{variable(other)} and {variable(name)} are both {value}; choose two.")
        if free and is_taken(int(value)):
            advice = f"name another one, or leave {variable(name)} out for the next free one"
            raise LocalError(f"{variable(name)}={value}: that port is taken; {advice}.")
        ports[name] = int(value)
    return ports


def choose(*, with_minio: bool) -> tuple[Ports, list[str]]:
    """Choose ports on which nobody listens: the named ones, else the last ones, else the next free ones.

    :return: the ports, and a line for each that is not the one to expect.
    :raises LocalError: one that is named cannot be used.
    """
    chosen, said = named(free=True), []
    last = {name: port for name, port in asdict(Ports.remembered()).items() if port}
    usual = asdict(WITH_MINIO if with_minio else Ports())
    for name in [name for name, port in usual.items() if port and name not in chosen]:
        expected = port = last.get(name, usual[name])
        while port in chosen.values() or is_taken(port):
            port += 1
        if port != expected:
            said.append(f"Port {expected} is taken; {variable(name)} is {port} from now on")
        chosen[name] = port
    return Ports(**{name: chosen[name] for name, port in usual.items() if port}), said


def is_taken(port: int) -> bool:
    """Tell whether somebody listens on the port."""
    # By connecting: macOS would let us bind 127.0.0.1 beside a program that listens on all addresses, as
    # AirPlay does on port 5000, and a browser would then reach one or the other.
    for address in ("127.0.0.1", "::1"):
        with suppress(OSError), socket.create_connection((address, port), timeout=1):
            return True
    return False
