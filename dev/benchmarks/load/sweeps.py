"""Sweeps of more tasks, as Airflow's scheduler runs them.

One task is mapped over many indices, four at a time, on the stack without Docker, whose databases are SQLite.
It is either plain, or tracked under one parent run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from dev.benchmarks.report import Table
from dev.benchmarks.stack import run, start_with_sweeps
from dev.tests.helpers.clones import run_clone

TASKS = (32, 128, 512)


def measure() -> Iterator[Table]:
    """Run each sweep once, in order of size."""
    table = Table(("tasks", "plain (s)", "per task", "nested (s)", "per task", "relative to plain"))
    with TemporaryDirectory(prefix="benchmark-") as folder, run_clone(Path(folder).resolve()) as clone:
        airflow = start_with_sweeps(clone)
        for tasks in TASKS:
            plain, nested = (run(airflow, f"sweep_{kind}", tasks=tasks) for kind in ("plain", "nested"))
            cells = (f"{plain:.0f}", f"{plain / tasks:.2f}", f"{nested:.0f}", f"{nested / tasks:.2f}")
            table.add(str(tasks), *cells, f"{nested / plain:.2f}")
    yield table
