"""What a benchmark says: tables, and how the budgets stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import rich.table


@dataclass
class Table:
    """Figures, under these names; the first column says of what."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(cells)

    def for_terminal(self) -> rich.table.Table:
        """Return it as rich prints it."""
        table = rich.table.Table(*self.columns, box=None)
        for row in self.rows:
            table.add_row(*row)
        return table

    def for_page(self) -> str:
        """Return it in Markdown."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@dataclass(frozen=True)
class Budget:
    """What something may cost at most, and what it does.

    :param what: names the thing and its unit.
    :param limit: e.g. ``<= 0.3``.
    :param if_missed: why it is, if it is, and what would meet it.
    """

    what: str
    limit: str
    measured: float
    if_missed: str = ""

    @property
    def is_kept(self) -> bool:
        """Tell whether what was measured is within the limit."""
        sign, number = self.limit.split()
        within = {"<=": self.measured <= float(number), ">=": self.measured >= float(number)}
        return within[sign]


def table_of(budgets: Iterable[Budget]) -> Table:
    """Show budgets side by side."""
    table = Table(("budget", "limit", "measured", ""))
    for budget in budgets:
        verdict = "kept" if budget.is_kept else f"missed. {budget.if_missed}".strip()
        table.add(budget.what, budget.limit, f"{budget.measured:.3g}", verdict)
    return table
