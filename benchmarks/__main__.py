"""Run the benchmarks that the arguments name, by default all; all of them write docs/benchmarks.md, too.

Exit with 1 when a budget is missed.
"""

from __future__ import annotations

import os
import platform
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "provider" / "tests")]
os.environ |= {
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",  # tables only
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER": str(ROOT / ".local" / "mlflow-server" / "bin" / "mlflow"),
}

from benchmarks import environments, hook_calls, parse_dags, predict, stack, tracked_tasks  # noqa: E402
from benchmarks.report import Budget, Table, table_of  # noqa: E402

BENCHMARKS = {
    module.__name__.partition(".")[2]: module
    for module in (stack, tracked_tasks, hook_calls, parse_dags, environments, predict)
}
PAGE = ROOT / "docs" / "benchmarks.md"


def machine() -> str:
    """Say on what all of it ran."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    programs = ", ".join(
        f"{name} {version(name)}" for name in ("apache-airflow", "mlflow-skinny", "scikit-learn")
    )
    return (
        f"{date.today():%d %B %Y}, {os.cpu_count()} cores, {memory:.0f} GB of memory, "  # noqa: DTZ011
        f"Python {platform.python_version()}, {programs}."
    )


def main(names: list[str]) -> None:
    """Run them one after the other."""
    console = Console(soft_wrap=True, highlight=False)
    budgets: list[Budget] = []
    page = ["# What it costs", f"Written by `make bench` on {machine()}"]
    for name in names or BENCHMARKS:
        title, text = describe(BENCHMARKS[name])
        console.print(f"\n[bold]{title}[/]")
        page += [f"## {title}", text]
        for result in BENCHMARKS[name].measure():
            if isinstance(result, Table):
                console.print(result.for_terminal())
                page.append(result.for_page())
            else:
                budgets.append(result)
    console.print("\n[bold]Budgets[/]", table_of(budgets).for_terminal(), sep="\n")
    page[2:2] = [table_of(budgets).for_page()]
    if not names:
        PAGE.write_text("\n\n".join(page) + "\n", encoding="utf-8")
        console.print(f"\nWritten to {PAGE.relative_to(ROOT)}")
    if not all(budget.is_kept for budget in budgets):
        sys.exit("A budget is missed.")


def describe(module: ModuleType) -> tuple[str, str]:
    """Return a benchmark's title and text, as its docstring has them."""
    title, _, text = (module.__doc__ or "").replace("``", "`").partition("\n\n")
    return title.rstrip("."), text.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
