"""Benchmarks: the project's budgets (``make -C dev bench``) and MLflow under load (``make -C dev load``)."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "provider" / "tests")]
os.environ |= {
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",  # tables only
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER": str(ROOT / ".local" / "mlflow-server" / "bin" / "mlflow"),
}
