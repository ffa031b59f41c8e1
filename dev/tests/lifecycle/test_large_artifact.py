"""Neither a task nor MLflow's server loads an artifact of a gigabyte into memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dev.tests.helpers.memory import peak_of

SIZE = 2**30
TASK = """
import os, resource, sys
from pathlib import Path
from mlflow_provider.hooks.client import MLflowClientHook

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

hook = MLflowClientHook()
with hook.tracking() as client:
    run = client.create_run(hook.get_or_create_experiment("Large"))
    Path("small.bin").write_bytes(b"small")
    client.log_artifact(run.info.run_id, "small.bin")
    before = peak()
    client.log_artifact(run.info.run_id, "large.bin")
    os.remove("large.bin")
    read = Path(client.download_artifacts(run.info.run_id, "large.bin", "."))
    print(read.stat().st_size, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_an_artifact_of_a_gigabyte_does_not_need_a_gigabyte_of_memory(
    mlflow_server, airflow_connection, tmp_path
):
    airflow_connection(**mlflow_server.connection)
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(SIZE)
    baseline = peak_of(mlflow_server)

    process = subprocess.run(
        [sys.executable, "-c", TASK], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    size, grown = map(int, process.stdout.split()[-2:])
    print(f"task: {grown / 2**20:.0f} MiB, server: {(peak_of(mlflow_server) - baseline) / 2**20:.0f} MiB")
    assert size == SIZE
    assert grown < SIZE / 4
    assert peak_of(mlflow_server) - baseline < SIZE / 4
