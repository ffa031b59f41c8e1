"""Peak memory of an MLflow server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer


def peak_of(server: MLflowServer) -> int:
    """Return the highest peak memory of the server's processes, in bytes (Linux)."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in _pids(server)]
    return max(int(status.split("VmHWM:")[1].split()[0]) * 1024 for status in statuses)


def reset_peak_of(server: MLflowServer) -> None:
    """Reset the peaks to the current memory."""
    for pid in _pids(server):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _pids(server: MLflowServer) -> list[int]:
    return [server.pid, *(child.pid for child in psutil.Process(server.pid).children(recursive=True))]
