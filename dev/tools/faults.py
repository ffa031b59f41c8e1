"""Run all tests marked ``fault``, print a table of the results, and write docs/explain/faults.md.

Each row of the table is one mark, see provider/tests/faults.py. Arguments go to pytest; with arguments,
nothing is written.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest
from rich.console import Console
from rich.table import Column, Table

from local_stack.settings import ROOT

PAGE = ROOT / "docs" / "explain" / "faults.md"
# In the order of the page.
FOLDERS = (
    "dev/tests/faults",
    "provider/tests",
    "dev/tests/stack",
    "dev/tests/stack/faults",
    "dev/tests/lifecycle",
    "dev/tests/docker",
    "dev/tests/executors",
)
# Suites that need an installation or an engine of their own are only listed, with the target that runs them.
ELSEWHERE = {
    "dev/tests/lifecycle": "lifecycle-test",
    "dev/tests/docker": "docker-test",
    "dev/tests/executors/kubernetes": "kubernetes-test",
    "dev/tests/executors": "celery-test",
}
# Rounded, because exact seconds would change the page on every machine.
BOUNDS = {1: "a second", 5: "5 s", 10: "10 s", 30: "30 s", 60: "a minute", 120: "2 minutes", 300: "5 minutes"}


def target_of(file: str) -> str:
    """Return the target that runs a test file instead of ``faults``, or an empty string."""
    return next((target for folder, target in ELSEWHERE.items() if file.startswith(f"{folder}/")), "")


@dataclass
class Fault:
    """A row of the table.

    :param place: file and line of the first test with this mark.
    :param seconds: the longest recovery.
    :param state: passed, failed or skipped.
    """

    what: str
    sees: str
    green: str
    lost: str
    place: tuple[str, int]
    seconds: float = 0
    state: str = "passed"

    @property
    def run_by(self) -> str:
        """The target that runs it, if not ``faults``."""
        return target_of(self.place[0])

    @property
    def within(self) -> str:
        """The recovery time, rounded up."""
        return next((text for limit, text in BOUNDS.items() if self.seconds <= limit), "more")


class Collector:
    """A pytest plugin that collects a row per fault; several tests may share one."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties: dict[str, Any] = dict(report.user_properties)
        if not (row := properties.get("fault")) or (report.when != "call" and report.passed):
            return
        file, line, _ = report.location
        fault = self._faults.setdefault(row["what"], Fault(**row, place=(file, line or 0)))
        fault.place = min(fault.place, (file, line or 0))
        fault.seconds = max(fault.seconds, properties.get("seconds", 0))
        if not report.passed and fault.state != "failed":
            fault.state = report.outcome

    @property
    def faults(self) -> list[Fault]:
        """All rows, in the order of the page."""

        def order(fault: Fault) -> tuple[int, str, int]:
            file, line = fault.place
            folder = max(index for index, name in enumerate(FOLDERS) if file.startswith(f"{name}/"))
            return (folder, file, line)

        return sorted(self._faults.values(), key=order)


def print_table(faults: list[Fault]) -> None:
    """Print the table to the terminal."""
    table = Table(
        "what goes wrong",
        "what the user sees",
        "lost",
        Column("recovered in", justify="right"),
        "",
        box=None,
        padding=(0, 2, 1, 0),
    )
    for fault in faults:
        seconds = "" if fault.state == "skipped" else f"{fault.seconds:.1f} s"
        table.add_row(fault.what, fault.sees, fault.lost, seconds, fault.run_by or fault.state)
    Console(highlight=False, markup=False).print(table)


def page(faults: list[Fault]) -> str:
    """Return the text of docs/explain/faults.md."""
    head = PAGE.read_text().partition("\n| what goes wrong")[0].rstrip()
    rows = ["| what goes wrong | what the user sees | green again | lost | within |", "|---|---|---|---|---|"]
    for fault in faults:
        within = f"`make -C dev {fault.run_by}`" if fault.run_by else fault.within
        rows.append(f"| {fault.what} | {fault.sees} | {fault.green} | {fault.lost} | {within} |")
    return "\n".join([head, "", *rows, ""])


def main(arguments: list[str]) -> int:
    """Run the tests and return the exit code."""
    collector = Collector()
    selected = arguments or ["-n", "3", "--no-loadscope-reorder", *FOLDERS]
    # Include the folders that `make test` leaves out.
    code = pytest.main(["-q", "-m", "fault", "-o", "norecursedirs=.*", *selected], plugins=[collector])
    print_table(collector.faults)
    is_whole = all(fault.run_by or fault.state == "passed" for fault in collector.faults)
    if not arguments and code == pytest.ExitCode.OK and is_whole:
        PAGE.write_text(page(collector.faults))
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
