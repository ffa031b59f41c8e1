"""Run the benchmarks named in the arguments. Without arguments, run all and write a page of the site.

Exit with 1 if a budget is missed.
"""

from __future__ import annotations

import sys

from dev.benchmarks import environments, parse_dags, predict, stack, tracked_tasks
from dev.benchmarks.report import run

BENCHMARKS = (stack, tracked_tasks, parse_dags, environments, predict)

if __name__ == "__main__":
    budgets = run(BENCHMARKS, sys.argv[1:], "Performance", "bench", "performance.md")
    if not all(budget.is_kept for budget in budgets):
        sys.exit("A budget is missed.")
