"""Each iteration of a task loop has its own run, with Airflow 3.4 and ``dag.test()``."""

from __future__ import annotations

import os
import subprocess
import sys

import airflow.sdk
import pytest

DAG_FILE = """
from airflow.sdk import dag, task, task_group


@dag(schedule=None)
def refine():
    @task_group
    def iteration():
        @task.mlflow(experiment="{experiment}", nested=True)
        def improve(*, loop):
            import mlflow

            mlflow.log_param("index", loop.index)
            return ["a", "b"]

        @task.mlflow(experiment="{experiment}", nested=True)
        def check(part, *, loop):
            import mlflow

            mlflow.log_params({{"index": loop.index, "part": part}})

        check.expand(part=improve())

    iteration.loop(max_iterations=2)


refine()
"""

RUN_DAG = """
import os
from airflow.dag_processing.dagbag import DagBag
from airflow.utils.db import upgradedb

upgradedb()
folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
dag_run = DagBag(folder, bundle_path=folder, bundle_name="dags-folder").dags["refine"].test()
assert dag_run.state == "success", dag_run.state
"""


@pytest.mark.skipif(not hasattr(airflow.sdk, "LoopDecision"), reason="Airflow has task loops since 3.4")
@pytest.mark.usefixtures("mlflow_default")
def test_each_iteration_has_its_own_run_under_one_parent(hook, name, tmp_path):
    (tmp_path / "refine.py").write_text(DAG_FILE.format(experiment=name))
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
    }
    process = subprocess.run(
        [sys.executable, "-c", RUN_DAG], env=environment, check=False, capture_output=True, text=True
    )

    assert process.returncode == 0, process.stderr[-5000:]
    result = hook.client.search_runs([hook.get_or_create_experiment(name)])
    tasks = [run for run in result if "mlflow.parentRunId" in run.data.tags]
    tags = ("airflow.task_id", "airflow.loop_index", "airflow.map_index")
    assert sorted((*(run.data.tags[tag] for tag in tags), run.data.params["index"]) for run in tasks) == [
        ("iteration.check", "0", "0", "0"),
        ("iteration.check", "0", "1", "0"),
        ("iteration.check", "1", "0", "1"),
        ("iteration.check", "1", "1", "1"),
        ("iteration.improve", "0", "-1", "0"),
        ("iteration.improve", "1", "-1", "1"),
    ]
    parent = next(run for run in result if run not in tasks)
    assert {run.data.tags["mlflow.parentRunId"] for run in tasks} == {parent.info.run_id}
    assert {run.info.status for run in result} == {"FINISHED"}
