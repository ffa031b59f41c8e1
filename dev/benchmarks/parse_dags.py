"""The time to parse a DAG file, in addition to importing Airflow's SDK.

Every DAG file imports the SDK.
Each file is parsed in a new process, and the best of three counts.
The last row is the last file with ``mlflow``, ``pandas`` and ``sklearn`` imported at its top.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from dev.benchmarks.report import Budget, Table

ROOT = Path(__file__).resolve().parents[2]
REPETITIONS = 3

MEASURE = """
import runpy, sys, time
began = time.perf_counter()
import airflow.sdk as sdk
sdk.BaseOperator, sdk.BaseHook, sdk.dag, sdk.task
imported = time.perf_counter()
exec(sys.argv[2])
runpy.run_path(sys.argv[1])
print(imported - began, time.perf_counter() - imported)
"""
HEAVY_IMPORTS = "import mlflow, pandas, sklearn.pipeline"


def seconds_of(file: Path, imports: str = "") -> tuple[float, float]:
    """Return the seconds for importing the SDK and for parsing the file afterwards."""
    command = [sys.executable, "-c", MEASURE, str(file), imports]
    runs = []
    for _ in range(REPETITIONS):
        printed = subprocess.check_output(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, text=True)
        sdk, parse = printed.split()[-2:]
        runs.append((float(sdk), float(parse)))
    return min(sdk for sdk, _ in runs), min(parse for _, parse in runs)


def measure() -> Iterator[Table | Budget]:
    """Parse each file."""
    table = Table(("DAG file", "SDK import (s)", "parse (s)", "relative to import"))
    longest = 0.0
    files = sorted((ROOT / "dags").glob("*.py"))
    for file, imports in [*((file, "") for file in files), (files[-1], HEAVY_IMPORTS)]:
        sdk, parse = seconds_of(file, imports)
        longest = longest if imports else max(longest, parse)
        name = f"{file.name}, heavy imports" if imports else file.name
        table.add(name, f"{sdk:.2f}", f"{parse:.3f}", f"{parse / sdk:.1%}")
    yield table
    yield Budget("parse one DAG file (s)", "<= 0.15", longest)
