"""Common mistakes in tasks that use the ``mlflow`` package: the log of each task names the fix."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import mlflow
import pytest

from dag_runs import run_dag

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer

DAG_FILE = """
import os
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from airflow.sdk import dag, task

from mlflow_provider.hooks.base import MLflowBaseHook

SETTING = "AIRFLOW__MLFLOW__ON_LOCAL_TRACKING_URI"
SCRIPT = "import mlflow; mlflow.start_run(); mlflow.end_run(); mlflow.start_run()"


def start_run():
    import mlflow

    with mlflow.start_run():
        pass


def in_fork(function):
    if not (child := os.fork()):
        function()
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)


def log_model():
    import mlflow
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"])
    return run.info


@dag(schedule=None)
def mistakes():
    def in_own_folder(function):
        def run_function():
            import mlflow

            mlflow.set_tracking_uri(None)
            os.environ.pop("MLFLOW_TRACKING_URI", None)
            os.environ.pop(SETTING, None)
            folder = os.path.join({folder!r}, function.__name__)
            os.makedirs(folder)
            os.chdir(folder)
            function()

        run_function.__name__ = function.__name__
        return task(run_function)

    @in_own_folder
    def starts_two_runs():
        start_run()
        start_run()

    @in_own_folder
    def forks():
        in_fork(lambda: (start_run(), start_run()))

    @in_own_folder
    def runs_a_script():
        subprocess.run([sys.executable, "-c", SCRIPT], check=True)

    @in_own_folder
    def does_all_of_these():
        start_run()
        in_fork(start_run)
        subprocess.run([sys.executable, "-c", SCRIPT], check=True)

    @in_own_folder
    def only_logs_a_model():
        import mlflow

        mlflow.initialize_logged_model(name="model")

    @in_own_folder
    def is_told_to_fail():
        os.environ[SETTING] = "fail"
        start_run()

    @in_own_folder
    def has_a_script_that_is_told_to_fail():
        os.environ[SETTING] = "fail"
        subprocess.run([sys.executable, "-c", SCRIPT], check=True)

    @in_own_folder
    def is_told_to_ignore_it():
        os.environ[SETTING] = "ignore"
        start_run()

    @in_own_folder
    def sets_a_remote_uri():
        import mlflow

        mlflow.set_tracking_uri({url!r})
        start_run()

    @in_own_folder
    def uses_tracking():
        with MLflowBaseHook().tracking():
            start_run()
            in_fork(start_run)

    @task.mlflow
    def is_tracked():
        start_run()
        subprocess.run([sys.executable, "-c", SCRIPT], check=True)

    @task.mlflow(mlflow_conn_id="unreachable", on_tracking_error="warn")
    def may_run_untracked():
        start_run()

    @in_own_folder
    def looks_for_a_run_of_another_worker():
        import mlflow

        mlflow.get_run("0" * 32)

    @in_own_folder
    def takes_a_bucket_for_a_server():
        import mlflow

        mlflow.set_tracking_uri("s3://bucket/mlruns")
        start_run()

    @in_own_folder
    def takes_a_web_server_for_mlflow():
        import mlflow

        server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
        Thread(target=server.serve_forever, daemon=True).start()
        mlflow.set_tracking_uri(f"http://127.0.0.1:{{server.server_port}}")
        start_run()

    @in_own_folder
    def writes_to_a_folder():
        import mlflow

        mlflow.set_tracking_uri(os.getcwd())
        start_run()

    @in_own_folder
    def names_only_databricks():
        import mlflow

        mlflow.set_tracking_uri("databricks")
        start_run()

    @in_own_folder
    def downloads_from_no_run():
        import mlflow

        mlflow.artifacts.download_artifacts(run_id=None, artifact_path="model")

    @in_own_folder
    def loads_a_model_from_the_runs_artifacts():
        import mlflow

        with MLflowBaseHook().tracking():
            mlflow.sklearn.load_model(f"{{log_model().artifact_uri}}/model")

    @in_own_folder
    def registers_a_model_from_the_runs_artifacts():
        import mlflow

        with MLflowBaseHook().tracking():
            mlflow.register_model(f"{{log_model().artifact_uri}}/model", "mistakes")

    @in_own_folder
    def misspells_a_model():
        import mlflow

        with MLflowBaseHook().tracking():
            mlflow.pyfunc.load_model(f"runs:/{{log_model().run_id}}/modle")

    @in_own_folder
    def loads_from_no_run():
        import mlflow

        with MLflowBaseHook().tracking():
            mlflow.pyfunc.load_model(f"runs:/{{None}}/model")

    @task.mlflow
    def loads_from_no_run_while_tracked():
        import mlflow

        mlflow.pyfunc.load_model(f"runs:/{{None}}/model")

    @task
    def fails_without_mlflow():
        raise ValueError("no sales")

    for function in list(locals().values()):
        if function is not in_own_folder:
            function()


mistakes()
"""

USE_THE_CONNECTION = re.escape(
    """use @task.mlflow, or wrap the code in "with MLflowBaseHook('mlflow_default').tracking():"."""
)
WARNING = (
    r"MLflow writes to (?:sqlite|file):\S+ on this worker, not to an MLflow server; " + USE_THE_CONNECTION
)
# The number of warnings, by task.
WARNED = {
    "starts_two_runs": 1,
    "forks": 1,
    "runs_a_script": 1,
    "does_all_of_these": 1,
    "only_logs_a_model": 1,
    "is_told_to_ignore_it": 0,
    "sets_a_remote_uri": 0,
    "uses_tracking": 0,
    "is_tracked": 0,
    "may_run_untracked": 0,
}
MODEL_NOT_IN_RUN = (
    r"no artifact 'model'; if it is a model, which MLflow 3 stores separately, use runs:/\w{32}/model"
)
RUN_ID_MISSING = "the run ID is None; return the run ID or the model URI from the task that creates it"
FIXES = {
    "is_told_to_fail": WARNING,
    "has_a_script_that_is_told_to_fail": WARNING,
    "looks_for_a_run_of_another_worker": WARNING,
    "takes_a_bucket_for_a_server": "the tracking URI 's3://bucket/mlruns' is not the address of an MLflow "
    f"server; remove it, and {USE_THE_CONNECTION}",
    "takes_a_web_server_for_mlflow": "this is not an MLflow server, or it does not support "
    "'/api/2.0/mlflow/runs/create'; correct Host and Port",
    "writes_to_a_folder": "MLflow writes to a folder on this worker, not to an MLflow server; "
    f"{USE_THE_CONNECTION}",
    "names_only_databricks": "this worker has no login for Databricks; enter the workspace in the connection "
    f"mlflow_default, and {USE_THE_CONNECTION}",
    "downloads_from_no_run": RUN_ID_MISSING,
    "loads_a_model_from_the_runs_artifacts": MODEL_NOT_IN_RUN,
    "registers_a_model_from_the_runs_artifacts": MODEL_NOT_IN_RUN,
    "misspells_a_model": "there is no artifact or model 'modle'; correct its name, or log it",
    "loads_from_no_run": RUN_ID_MISSING,
    "loads_from_no_run_while_tracked": RUN_ID_MISSING,
}


@pytest.fixture(scope="module")
def logs(mlflow_server: MLflowServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the tasks log, by task ID."""
    folder = tmp_path_factory.mktemp("mistakes")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "mistakes.py").write_text(DAG_FILE.format(folder=str(folder), url=mlflow_server.url))
    environment = {
        "AIRFLOW_CONN_MLFLOW_DEFAULT": f"mlflow://{mlflow_server.url.removeprefix('http://')}",
        "AIRFLOW_CONN_UNREACHABLE": "mlflow://127.0.0.1:9",
        "PYTHONUNBUFFERED": "1",
    }
    output = run_dag(dags, "mistakes", **environment)
    # After the last task come the callbacks of the DAG run.
    tasks = re.compile(r"\[DAG TEST\] starting task_id=(\w+)(.*?)\[DAG TEST\] end task", re.DOTALL)
    return dict(tasks.findall(output))


@pytest.mark.parametrize(("task_id", "count"), WARNED.items())
def test_a_task_is_warned_once_if_its_runs_do_not_reach_a_server(logs, task_id, count):
    assert len(re.findall(WARNING, logs[task_id])) == count, logs[task_id]
    assert "Task failed with exception" not in logs[task_id]


@pytest.mark.parametrize(("task_id", "fix"), FIXES.items())
def test_the_log_of_a_failed_task_ends_with_the_fix(logs, task_id, fix):
    if task_id in ("misspells_a_model", "writes_to_a_folder") and mlflow.__version__.startswith("3.0."):
        pytest.skip("MLflow 3.0 raises a TypeError that does not name the model, and can write to a folder")
    _, traceback = logs[task_id].split("Traceback (most recent call last)", 1)
    assert re.search(rf"(Error|Exception): .*{fix}", traceback, re.DOTALL), logs[task_id]


def test_a_failure_without_mlflow_gets_no_advice(logs):
    assert "ValueError: no sales" in logs["fails_without_mlflow"]
    assert "mlflow_provider" not in logs["fails_without_mlflow"]
