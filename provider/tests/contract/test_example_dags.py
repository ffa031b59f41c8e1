"""The example DAGs in the package, run with ``dag.test()``."""

from __future__ import annotations

import importlib
import inspect
import os
import runpy
import subprocess
import sys
from pathlib import Path

import airflow
import pytest
from airflow import settings
from airflow.utils.db import upgradedb

from mlflow_provider import example_dags
from mlflow_provider.get_provider_info import get_provider_info

FOLDER = Path(example_dags.__file__).parent
FILES = sorted(FOLDER.glob("example_*.py"))


@pytest.fixture(scope="module")
def airflow_database():
    """A database for Airflow, with the example DAGs for Airflow 3.1, which tests only DAGs that it knows."""
    upgradedb()
    if airflow.__version__.startswith("3.1."):
        environment = {**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER)}
        command = [sys.executable, "-m", "airflow", "dags", "reserialize"]
        subprocess.run(command, env=environment, check=True)


@pytest.mark.usefixtures("airflow_database", "mlflow_default", "untouched_mlflow")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_example_dag_succeeds(file, target, monkeypatch):
    # The doctor finds runs that other tests have left open.
    monkeypatch.setenv("AIRFLOW__MLFLOW__INSTANCE", file.stem)
    monkeypatch.setattr(settings, "DAGS_FOLDER", str(file))  # dag.test() also looks there
    dag = runpy.run_path(str(file))[file.stem.replace("example_", "example_mlflow_", 1)]()
    params = {"target_uri": target} if "target_uri" in dag.params else {}

    dag_run = dag.test(run_conf=params)

    states = {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}
    assert states == dict.fromkeys(dag.task_ids, "success")


@pytest.mark.skipif(airflow.__version__.startswith(("3.1.", "3.2.")), reason="3.3 introduced it")
def test_load_examples_adds_the_example_dags():
    code = "from airflow.dag_processing.bundles.manager import DagBundlesManager\n"
    code += "print(*(bundle.path for bundle in DagBundlesManager().get_all_dag_bundles()), sep='\\n')"
    environment = {**os.environ, "AIRFLOW__CORE__LOAD_EXAMPLES": "True"}

    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)

    assert str(FOLDER) in output.splitlines()


def test_every_public_class_and_decorator_occurs_in_an_example():
    info = get_provider_info()
    names = {
        name
        for kind in ("hooks", "operators", "sensors", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
        for name, each in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if each.__module__ == module and not name.startswith("_")
    }
    names |= {link.rsplit(".")[-1] for link in info["extra-links"]}
    names |= {f"@task.{decorator['name']}" for decorator in info["task-decorators"]}
    source = "".join(file.read_text() for file in FILES)

    assert {name for name in names if name not in source} == set()
