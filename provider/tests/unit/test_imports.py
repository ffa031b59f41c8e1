"""Parsing a DAG that uses the provider imports nothing heavy besides Airflow's SDK."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import mlflow_provider

HEAVY = ("boto3", "mlflow", "numpy", "pandas", "requests", "sklearn")
# Imported with the first request to MLflow, or to its pages in Airflow.
LATE = (
    "mlflow_provider.server.login",
    "mlflow_provider.server.rest",
    "mlflow_provider.server.session",
    "mlflow_provider.plugins.pages",
)


def test_no_module_imports_a_package_that_only_a_running_task_needs():
    modules = [
        module.name
        for module in pkgutil.walk_packages(mlflow_provider.__path__, "mlflow_provider.")
        if module.name not in LATE
    ]
    assert "mlflow_provider.operators.registry" in modules
    # Airflow 3.1's own SDK imports requests.
    code = (
        "import sys; from airflow.sdk import DAG, BaseHook, BaseOperator; loaded = set(sys.modules);"
        f"import {', '.join(modules)}; print(sorted({{*{HEAVY}}} & ({{*sys.modules}} - loaded)))"
    )

    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert process.stdout.splitlines()[-1] == "[]"
