"""Tasks that are retried, pause, or run other programs."""

import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonVirtualenvOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, dag, task
from airflow.sdk.definitions.context import Context

from mlflow_provider import task_run
from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.version_compat import DEFERRALS

_, Reschedule, *_ = DEFERRALS
SOON = timedelta(seconds=1)
# A busy scheduler fails a task that resumes before it has noticed the pause.
PAUSE = timedelta(seconds=30)
LOG = "import mlflow; mlflow.log_metric('rmse', 0.5)"


def log(number: int) -> None:
    """Log a parameter, which a run accepts only once, a metric and an artifact."""
    import mlflow

    mlflow.log_param("seed", number)
    mlflow.log_metric(f"rmse_{number}", 0.5)
    mlflow.log_text("done", f"{number}.txt")


@task.mlflow(retries=1, retry_delay=SOON)
def is_retried(ti: Any = None) -> None:
    log(ti.try_number)
    if ti.try_number == 1:
        raise ValueError("no sales in 2011")


class NoXCom:
    def __reduce__(self) -> Any:
        raise TypeError("no XCom")


@task.mlflow(retries=1, retry_delay=SOON, nested=True)
def is_retried_after_its_return(ti: Any = None) -> Any:
    return NoXCom() if ti.try_number == 1 else None


@task.mlflow(retries=1, retry_delay=SOON, nested=True)
def is_retried_after_a_crash(ti: Any = None) -> None:
    if ti.try_number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@task.mlflow(retries=1, retry_delay=SOON, retry="continue")
def continues(ti: Any = None) -> None:
    import mlflow

    mlflow.log_param("seed", 1)
    mlflow.log_metric("rmse", 1 / ti.try_number, step=ti.try_number)
    mlflow.log_text("done", f"{ti.try_number}.txt")
    if ti.try_number == 1:
        raise ValueError("no sales in 2011")


@task.mlflow
def is_rescheduled(task_reschedule_count: Any = None) -> None:
    import mlflow

    mlflow.log_metric(f"rmse_{task_reschedule_count}", 0.5)
    if not task_reschedule_count:
        raise Reschedule(datetime.now(timezone.utc) + PAUSE)


@task.sensor(mode="reschedule", poke_interval=PAUSE.total_seconds())
def looks_twice(task_reschedule_count: Any = None) -> bool:
    import mlflow

    with task_run():
        mlflow.log_metric(f"rmse_{task_reschedule_count}", 0.5)
    return bool(task_reschedule_count)


def start_runs_in_forks() -> None:
    import mlflow

    children = []
    for fold in range(4):
        if not (child := os.fork()):
            with mlflow.start_run(run_name=f"fold {fold}"):
                mlflow.log_metric("rmse", fold)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


@task.mlflow(execution_timeout=timedelta(minutes=3))
def forks() -> None:
    start_runs_in_forks()


@task(execution_timeout=timedelta(minutes=3))
def forks_without_a_run() -> None:
    import mlflow

    with MLflowBaseHook().tracking():
        mlflow.set_experiment("tries")
        start_runs_in_forks()


class Deferred(BaseOperator):
    def execute(self, context: Context) -> None:
        with task_run(context=context):
            log(1)
            self.defer(trigger=TimeDeltaTrigger(PAUSE), method_name="resume")

    def resume(self, context: Context, event: Any) -> None:
        import mlflow

        with task_run(context=context):
            mlflow.log_metric("rmse_2", 0.5)


@task.mlflow
def runs_a_script() -> None:
    subprocess.run([sys.executable, "-c", LOG], check=True)


class TrackedBash(BashOperator):
    def execute(self, context: Context) -> Any:
        with task_run(context=context):
            return super().execute(context)


class TrackedVirtualenv(PythonVirtualenvOperator):
    def execute(self, context: Context) -> Any:
        with task_run(context=context):
            return super().execute(context)


def train() -> None:
    import mlflow

    with mlflow.start_run():
        mlflow.log_metric("rmse", 0.5)


@task
def uses_the_mlflow_package() -> None:
    import mlflow

    with MLflowBaseHook().tracking():
        mlflow.set_experiment("tries")
        with mlflow.start_run(run_name="uses_the_mlflow_package"):
            mlflow.log_metric("rmse", 0.5)


@task.mlflow(autolog=True)
def trains_a_model() -> None:
    """Log a model without a signature, whose requirements MLflow has to infer: this causes most warnings."""
    import mlflow
    from sklearn.linear_model import Ridge

    with mlflow.start_run():
        model = Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
        mlflow.sklearn.log_model(model, name="model")
        mlflow.sklearn.load_model(f"runs:/{mlflow.active_run().info.run_id}/model")


@dag(schedule=None)
def tries() -> None:
    is_retried()
    is_retried_after_its_return()
    is_retried_after_a_crash()
    continues()
    is_rescheduled()
    looks_twice()
    forks()
    forks_without_a_run()
    Deferred(task_id="is_deferred")
    runs_a_script()
    TrackedBash(task_id="runs_a_command", bash_command=f'"{sys.executable}" -c "{LOG}"')
    TrackedVirtualenv(
        task_id="runs_in_a_virtualenv", python_callable=train, requirements=["mlflow-skinny==3.17.*"]
    )
    uses_the_mlflow_package()
    trains_a_model()


tries()
