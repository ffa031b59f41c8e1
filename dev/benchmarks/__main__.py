"""Run the benchmarks that the arguments name, by default all; all of them write docs/benchmarks.md, too.

Exit with 1 when a budget is missed.
"""

from __future__ import annotations

import sys

from dev.benchmarks import environments, hook_calls, parse_dags, predict, stack, tracked_tasks
from dev.benchmarks.report import run

BENCHMARKS = (stack, tracked_tasks, hook_calls, parse_dags, environments, predict)

if __name__ == "__main__":
    budgets = run(BENCHMARKS, sys.argv[1:], "What it costs", "bench", "benchmarks.md")
    if not all(budget.is_kept for budget in budgets):
        sys.exit("A budget is missed.")
