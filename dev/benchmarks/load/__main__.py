"""Run the measurements named in the arguments. Without arguments, run all and write a page of the site."""

from __future__ import annotations

import signal
import sys

from dev.benchmarks.load import artifacts, many_runs, sweeps, throughput
from dev.benchmarks.report import run

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended."))  # also ends all child processes
    run((throughput, many_runs, artifacts, sweeps), sys.argv[1:], "MLflow under load", "load", "load.md")
