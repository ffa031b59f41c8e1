"""All that use a login: each sends requests to MLflow in its own way, and fails if one is rejected."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

from mlflow_provider import task_run
from mlflow_provider.doctor import examine
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.plugins import pages
from mlflow_provider.triggers.registry import MLflowModelVersionTrigger
from tries import Try

CHILD = "import mlflow; print(len(mlflow.search_experiments(max_results=1)))"


def hook_call(name: str) -> None:
    MLflowClientHook().search_experiments(max_results=1)


def tracked_task(name: str) -> None:
    import mlflow

    with task_run(context=Try(name).context, experiment=name):
        mlflow.log_metric("rmse", 0.5)


def package(name: str) -> None:
    with MLflowClientHook().tracking() as client:
        run = client.create_run(MLflowClientHook().get_or_create_experiment(name))
        client.log_text(run.info.run_id, "text", "file.txt")
        assert client.list_artifacts(run.info.run_id)


def program(name: str) -> None:
    with MLflowClientHook().tracking():
        done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert done.stdout == "1\n", done.stderr


def triggerer(name: str) -> None:
    hook = MLflowClientHook()
    experiment = {"experiment_id": hook.get_or_create_experiment(name)}
    run = hook.call("POST", "runs/create", experiment)["run"]["info"]
    name = name.rpartition("/")[2]  # on Databricks, a path
    hook.create_registered_model(name)
    params = {"name": name, "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
    hook.call("POST", "model-versions/create", params)

    async def first_event() -> Any:
        trigger = MLflowModelVersionTrigger(name, poll_interval=0.05)
        return await anext(trigger.run())

    assert asyncio.run(first_event()).payload["version"] == "1"


def page(name: str) -> None:
    assert pages.runs_of_dag_run("housing", name).status_code == 200


def doctor(name: str) -> None:
    statuses = {result.check: result.status for result in examine()}
    assert (statuses["login"], statuses["next task"]) == ("ok", "ok"), statuses


def form_button(name: str) -> None:
    works, message = MLflowClientHook().test_connection()
    assert works, message


USERS = (tracked_task, hook_call, package, program, triggerer, page, doctor, form_button)
