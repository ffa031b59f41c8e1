"""The environment of a worker: size on disk, installation and import.

The environments contain Airflow with this project's requirements, the same with full ``mlflow``, or
provider 1.1.0.
uv installs and compiles all packages from its cache.
The import time is that of the provider's ``hooks.pyfunc`` in addition to Airflow's SDK, the best of three.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from dev.benchmarks.report import Budget, Table
from local_stack.install import fetch_uv
from local_stack.settings import ROOT

OURS = ("-r", "requirements.txt", "./provider", "-c", "constraints.txt")
AIRFLOW = "apache-airflow>=3.3,<3.4"
ENVIRONMENTS = {
    "this project": OURS,
    "with full mlflow": (*OURS, "mlflow>=3.17,<3.18"),
    "with provider 1.1.0": ("airflow-provider-mlflow==1.1.0", "-c", "constraints.txt"),
}
IMPORT = """
import time
import airflow.sdk as sdk
sdk.BaseOperator, sdk.BaseHook, sdk.dag, sdk.task
start = time.perf_counter()
import mlflow_provider.hooks.pyfunc
print(time.perf_counter() - start)
"""


def megabytes(folder: Path, pattern: str) -> float:
    """Return the total size of the files in a folder that match a pattern."""
    return sum(file.lstat().st_size for file in folder.rglob(pattern)) / 1e6


def seconds_to_import(python: Path) -> float:
    """Return the import time of the provider's hook."""
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    runs = [
        subprocess.check_output([python, "-c", IMPORT], env=environment, text=True, stderr=subprocess.DEVNULL)
        for _ in range(3)
    ]
    return min(float(printed.split()[-1]) for printed in runs)


def measure() -> Iterator[Table | Budget]:
    """Create each environment."""
    uv = fetch_uv()
    figures = ("packages", "size (MB)", "compiled (MB)", "install (s)", "import the hook (s)")
    table = Table(("environment", *figures))
    for name, packages in ENVIRONMENTS.items():
        with TemporaryDirectory(prefix="benchmark-") as folder:
            for options in ((), ("--compile-bytecode",)):  # the first round fills uv's cache
                subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, folder], check=True)
                install = [uv, "pip", "install", "-q", *options, "-p", folder, AIRFLOW, *packages]
                start = time.perf_counter()
                subprocess.run(install, check=True, cwd=ROOT)
                seconds = time.perf_counter() - start
            count = len(list(Path(folder).glob("lib/python*/site-packages/*.dist-info")))
            compiled = megabytes(Path(folder), "*.pyc")
            size = megabytes(Path(folder), "*") - compiled
            importing = seconds_to_import(Path(folder, "bin", "python"))
        table.add(name, str(count), f"{size:.0f}", f"{compiled:.0f}", f"{seconds:.0f}", f"{importing:.2f}")
        if packages is OURS:
            yield Budget("worker environment, not compiled (MB)", "<= 600", size)
    yield table
