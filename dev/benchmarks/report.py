"""Reports of benchmarks: tables and budgets."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from types import ModuleType

import rich.table
from rich.console import Console
from rich.markup import escape

from dev.benchmarks import ROOT


@dataclass
class Table:
    """A table of figures; the first column names what was measured."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(cells)

    def for_terminal(self) -> rich.table.Table:
        """Return the table for rich."""
        table = rich.table.Table(*self.columns, box=None)
        for row in self.rows:
            table.add_row(*row)
        return table

    def for_page(self) -> str:
        """Return the table in Markdown."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@dataclass(frozen=True)
class Budget:
    """A limit and the measured value.

    :param what: what is measured, with its unit.
    :param limit: e.g. ``<= 0.3``.
    :param if_missed: why the budget is missed, and what would meet it.
    """

    what: str
    limit: str
    measured: float
    if_missed: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the measured value is within the limit."""
        sign, number = self.limit.split()
        within = {"<=": self.measured <= float(number), ">=": self.measured >= float(number)}
        return within[sign]


def table_of(budgets: Iterable[Budget]) -> Table:
    """Return a table of budgets."""
    table = Table(("budget", "limit", "measured", ""))
    for budget in budgets:
        verdict = "kept" if budget.is_kept else f"missed. {budget.if_missed}".strip()
        table.add(budget.what, budget.limit, _short(budget.measured), verdict)
    return table


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def run(
    modules: Iterable[ModuleType], names: Collection[str], title: str, target: str, page_name: str
) -> list[Budget]:
    """Run benchmarks one after another and print their results; if all of them run, also write the page.

    :param names: names of the modules to run; all if empty.
    :param target: the make target, named on the page.
    :param page_name: file name in ``docs/benchmarks/``.
    :return: the budgets.
    """
    width = None if sys.stdout.isatty() else 120  # for a log; the default of rich is 80
    console = Console(soft_wrap=True, highlight=False, width=width)
    budgets: list[Budget] = []
    page = [f"# {title}", f"Written by `make -C dev {target}` on {machine()}"]
    by_name = {module.__name__.rpartition(".")[2]: module for module in modules}
    for name in names or by_name:
        heading, text = describe(module := by_name[name])
        console.print(f"\n[bold]{escape(heading)}[/]")
        page += [f"## {heading}", text]
        for result in module.measure():
            if isinstance(result, Table):
                console.print(result.for_terminal())
                page.append(result.for_page())
            else:
                budgets.append(result)
    if budgets:
        console.print("\n[bold]Budgets[/]", table_of(budgets).for_terminal(), sep="\n")
        page[2:2] = [table_of(budgets).for_page()]
    if not names:
        (ROOT / "docs" / "benchmarks" / page_name).write_text("\n\n".join(page) + "\n", encoding="utf-8")
        console.print(f"\nWritten to docs/benchmarks/{page_name}")
    return budgets


def machine() -> str:
    """Describe the date, the machine and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    programs = ", ".join(
        f"{name} {version(name)}" for name in ("apache-airflow", "mlflow-skinny", "scikit-learn")
    )
    return (
        f"{date.today():%d %B %Y}, {os.cpu_count()} cores, {memory:.0f} GB of memory, "  # noqa: DTZ011
        f"Python {platform.python_version()}, {programs}."
    )


def describe(module: ModuleType) -> tuple[str, str]:
    """Return a benchmark's title and text from its docstring."""
    title, _, text = (module.__doc__ or "").replace("``", "`").partition("\n\n")
    return title.rstrip("."), text.strip()
