"""Make every fault happen that a test is marked with, print what comes of it, and write docs/faults.md.

A row of the table is the mark ``fault`` of a test, see provider/tests/faults.py. Arguments are pytest's; with
some, nothing is written.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Column, Table

from dev.tools.kubeflow_cases import CASES
from local_stack.settings import ROOT

PAGE = ROOT / "docs" / "faults.md"
# In the order of the page.
FOLDERS = (
    "tests/faults",
    "provider/tests",
    "tests/stack",
    "dev/tests/stack/faults",
    "tests/lifecycle",
    "tests/docker",
    "tests/executors",
)
# Those that take an installation or an engine of their own are only named, with what runs them.
ELSEWHERE = {
    "tests/lifecycle": "make lifecycle-test",
    "tests/docker": "make docker-test",
    "dev/tests/executors/kubernetes": "make kubernetes-test",
    "tests/executors": "make celery-test",
}
ALSO_THERE = """\
Kubeflow Pipelines has a public plan of what to test of its own MLflow integration (proposal KEP-12862). Its
cases, section by section, and what holds here:"""
# A page with the seconds of each machine would never stay the same.
BOUNDS = {1: "a second", 5: "5 s", 10: "10 s", 30: "30 s", 60: "a minute", 120: "2 minutes", 300: "5 minutes"}


@dataclass
class Fault:
    """A row of the table.

    :param place: file and line of the first test that makes it happen.
    :param seconds: how long it took to recover at most.
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
        """The command that makes it happen, if `make faults` does not."""
        return next((command for name, command in ELSEWHERE.items() if self.place[0].startswith(name)), "")

    @property
    def within(self) -> str:
        """How long it took to recover, roughly."""
        return next((text for limit, text in BOUNDS.items() if self.seconds <= limit), "more")


class Collector:
    """A pytest plugin that makes a row of each fault; several tests may make the same one happen."""

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
    """Print the table as the terminal has room for it."""
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
    """Return the page about faults."""
    head = PAGE.read_text().partition("\n| what goes wrong")[0].rstrip()
    rows = ["| what goes wrong | what the user sees | green again | lost | within |", "|---|---|---|---|---|"]
    for fault in faults:
        within = f"`{fault.run_by}`" if fault.run_by else fault.within
        what = f"[{fault.what}](../{fault.place[0]})"
        rows.append(f"| {what} | {fault.sees} | {fault.green} | {fault.lost} | {within} |")
    cases = ["## Also there", "", ALSO_THERE, "", "| section | case | here | test |", "|---|---|---|---|"]
    for case in CASES:
        files = dict.fromkeys(test.partition("::")[0] for test in case.tests)
        tests = ", ".join(f"[{Path(file).stem}](../{file})" for file in files)
        cases.append(f"| {case.section} | {case.what} | {case.here} | {tests} |")
    return "\n".join([head, "", *rows, "", *cases, ""])


def main(arguments: list[str]) -> int:
    """Run the tests, and return what the process is to exit with."""
    collector = Collector()
    selected = arguments or ["-n", "3", "--no-loadscope-reorder", *FOLDERS]
    # Also the folders that `make test` leaves out.
    code = pytest.main(["-q", "-m", "fault", "-o", "norecursedirs=.*", *selected], plugins=[collector])
    print_table(collector.faults)
    is_whole = all(fault.run_by or fault.state == "passed" for fault in collector.faults)
    if not arguments and code == pytest.ExitCode.OK and is_whole:
        PAGE.write_text(page(collector.faults))
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
