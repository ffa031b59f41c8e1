"""Run the measurements that the arguments name, by default all; all of them write docs/load.md, too."""

from __future__ import annotations

import signal
import sys

from dev.benchmarks.load import artifacts, many_runs, sweeps, throughput
from dev.benchmarks.report import run

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended."))  # and with it all that was started
    run((throughput, many_runs, artifacts, sweeps), sys.argv[1:], "MLflow under load", "load", "load.md")
