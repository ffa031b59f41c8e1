"""Training that is killed continues from its checkpoint: the code of docs/how-to/resume.md."""

from __future__ import annotations

import subprocess
from typing import Any

import requests

from dev.tests.helpers.documentation import code
from dev.waiting import wait_until

DAG_ID = "resume_training"


def test_killed_training_continues_its_run_from_the_checkpoint(stack):
    folder = stack.clone.folder
    install = [".local/uv/bin/uv", "pip", "install", "-q", "-c", "constraints.txt", "xgboost-cpu"]
    subprocess.run([*install, "-p", ".venv"], cwd=folder, check=True)
    source = code("docs/how-to/resume.md", "Resume training after a crash", "python")
    file = folder / "dags" / f"{DAG_ID}.py"
    file.write_text(source)
    wait_until("the DAG is parsed", stack.airflow.parsed, lambda parsed: file.name in parsed)
    scheduler, *_ = stack.processes("scheduler")

    run_id = stack.airflow.trigger(DAG_ID)
    wait_until("there is a checkpoint", lambda: rounds(stack, run_id), lambda steps: len(steps) > 30)
    max(scheduler.children(recursive=True), key=lambda process: process.create_time()).kill()
    stack.wait_for_end(DAG_ID, run_id)
    file.unlink()

    assert stack.mlflow_statuses(DAG_ID, run_id) == ["FINISHED"]
    assert set(rounds(stack, run_id)) == set(range(1, 201))
    log = stack.call("GET", f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/train/logs/2")["content"]
    assert any("Resuming with" in str(entry["event"]) for entry in log)


def rounds(stack: Any, run_id: str) -> list[int]:
    """The rounds that the run has a metric of."""
    return [
        metric["step"]
        for run in stack.mlflow_runs(DAG_ID, run_id)
        for metric in requests.get(
            f"{stack.mlflow_url}/api/2.0/mlflow/metrics/get-history",
            params={"run_id": run["info"]["run_id"], "metric_key": "train_rmse"},
            timeout=60,
        )
        .json()
        .get("metrics", [])
    ]
