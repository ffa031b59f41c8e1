"""Run the example DAGs, and check from outside what they left in MLflow."""

from __future__ import annotations

import os
import tempfile
import warnings
from functools import partial

from rich.console import Console
from rich.table import Column, Table

from local import minio
from local.airflow_api import AirflowApi
from local.settings import LocalError, Ports
from local.waiting import wait_for

TUTORIAL = "mlflow_tutorial_dag"
DAG_IDS = (TUTORIAL, "mlflow_hook_dag", "mlflow_operator_dag", "mlflow_task_dag")
PATIENCE = 300  # seconds for all of them; where nothing else runs, a tenth of it is enough


def run(console: Console, ports: Ports) -> None:
    """Run the four DAGs at the same time, check what they did, and print a table of it.

    :raises LocalError: a task did not succeed, or MLflow does not hold what the tutorial promises.
    """
    api = AirflowApi(ports.airflow)
    api.log_in()
    run_ids = {dag_id: api.trigger(dag_id) for dag_id in DAG_IDS}

    def unfinished() -> list[str]:
        return [dag_id for dag_id, run_id in run_ids.items() if not api.dag_run(dag_id, run_id)["end_date"]]

    wait_for(console, unfinished, PATIENCE, "has run")
    for dag_id, run_id in run_ids.items():
        _check_tasks(api, dag_id, run_id)
    with console.status("Looking at what is in MLflow"):
        # MLflow's own client, with what a person would type in a notebook.
        os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{ports.mlflow}"
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "2"  # the server was there a moment ago
        if ports.minio:
            os.environ |= minio.client_environment(ports)  # for an experiment that keeps its artifacts in S3
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        from mlflow.exceptions import MlflowException  # here, as nothing else need wait for this import

        try:
            _check_tutorial(api, run_ids[TUTORIAL])
            table = _table(api, run_ids, ports)
        except MlflowException as error:
            raise LocalError(f"What the DAGs should have left in MLflow cannot be had: {error}") from error
    # However narrow the terminal: a link that is cut is none.
    Console(width=200, highlight=False).print(table)


def _check_tasks(api: AirflowApi, dag_id: str, run_id: str) -> None:
    """Make sure that every task instance of the DAG run succeeded."""
    failed = [task for task in api.task_instances(dag_id, run_id) if task["state"] != "success"]
    if failed:
        # The first one tells why; those after it were never started.
        task = min(failed, key=lambda task: task["start_date"] or "never")
        message = f"{dag_id}: task {task['task_id']} is {task['state']}, expected success."
        raise LocalError(message, api.log(dag_id, run_id, task))


def _check_tutorial(api: AirflowApi, dag_run_id: str) -> None:
    """Make sure that the experiment, the run, its model and the registered model are as the tutorial says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing skops gives a thousand of them
        import mlflow
        import numpy as np
        import pandas as pd

        scaler = mlflow.sklearn.load_model(api.xcom(TUTORIAL, dag_run_id, "model_uri", "scale_features"))
    client = mlflow.MlflowClient()
    run = client.get_run(api.xcom(TUTORIAL, dag_run_id, "mlflow_run_id", "scale_features"))
    _expect("Scaler", run.info.run_name, "name of the run")
    _expect("FINISHED", run.info.status, "status of the run")
    _expect("Housing", client.get_experiment(run.info.experiment_id).name, "experiment of the run")
    tags = client.get_registered_model("Housing").tags
    _expect({"model_type": "regression", "data": "housing"}, tags, "tags of the registered model Housing")

    with tempfile.TemporaryDirectory() as folder:
        features, scaled = (
            pd.read_csv(client.download_artifacts(run.info.run_id, name, folder))
            for name in ("features.csv", "scaled_features.csv")
        )
    means = [run.data.metrics.get(f"mean_{column}", np.nan) for column in features]
    same = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    try:
        same(scaler.transform(features), scaled, err_msg="features.csv, scaled by the model and by the DAG")
        same(means, scaler.mean_, err_msg="the metrics mean_..., and the means in the model")
    except AssertionError as error:
        raise LocalError(f"{TUTORIAL}: wrong numbers in MLflow.", str(error)) from None


def _expect(expected: object, seen: object, what: str) -> None:
    if seen != expected:
        raise LocalError(f"{TUTORIAL}: {what} in MLflow: expected {expected!r}, seen {seen!r}.")


def _table(api: AirflowApi, run_ids: dict[str, str], ports: Ports) -> Table:
    """Return the DAG runs, each with the address of its MLflow run."""
    import mlflow

    table = Table("DAG", "state", Column("seconds", justify="right"), "MLflow run", box=None)
    for dag_id, run_id in run_ids.items():
        dag_run = api.dag_run(dag_id, run_id)
        run = mlflow.get_run(api.xcom(dag_id, run_id, "mlflow_run_id")).info
        link = f"http://localhost:{ports.mlflow}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
        table.add_row(dag_id, dag_run["state"], f"{dag_run['duration']:.0f}", link)
    return table
