"""How other people's training code uses MLflow; nothing is added but ``@task.mlflow``."""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task

from mlflow_provider.hooks.base import MLflowBaseHook

FEATURES, PRICES = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0]
PROGRAM = "import mlflow\nwith mlflow.start_run(run_name='program'): mlflow.log_metric('rmse', {rmse})"
PROJECT = """
name: housing
entry_points:
  main:
    parameters: {rmse: float}
    command: "python -c \\"import mlflow; mlflow.start_run(); mlflow.log_metric('rmse', {rmse})\\""
"""


def train_fold(fold: int) -> None:
    import mlflow

    with mlflow.start_run(run_name=f"fold {fold}"):
        mlflow.log_param("fold", fold)


@task.mlflow
def loops_over_models() -> str:
    import mlflow

    best_run_id, best_rmse = "", float("inf")
    for name, rmse in (("ridge", 0.5), ("lasso", 0.3), ("forest", 0.4)):
        with mlflow.start_run(run_name=name) as run:
            mlflow.log_param("model", name)
            mlflow.log_metric("rmse", rmse)
        if rmse < best_rmse:
            best_run_id, best_rmse = run.info.run_id, rmse
    return best_run_id


@task.mlflow
def minimizes_an_objective() -> None:
    import mlflow
    from hyperopt import fmin, hp, tpe

    def objective(alpha: float) -> float:
        with mlflow.start_run(nested=True):
            mlflow.log_param("alpha", alpha)
            mlflow.log_metric("loss", alpha**2)
        return alpha**2

    with mlflow.start_run(run_name="search"):
        best = fmin(objective, hp.uniform("alpha", 0, 1), tpe.suggest, 3, show_progressbar=False)
        mlflow.log_metric("best_loss", best["alpha"] ** 2)


@task.mlflow
def optimizes_with_optuna() -> None:
    import mlflow
    import optuna
    from optuna_integration import MLflowCallback

    study = optuna.create_study(
        study_name="study", sampler=optuna.samplers.GridSampler({"x": [0, 1]}, seed=1)
    )
    callback = MLflowCallback(tracking_uri=mlflow.get_tracking_uri(), metric_name="loss")
    study.optimize(lambda trial: trial.suggest_int("x", 0, 1) ** 2, callbacks=[callback])


@task.mlflow
def logs_as_lightning_does() -> None:
    """The calls of lightning 2.6's ``MLFlowLogger``; ``lightning`` itself takes 5 GB, with ``torch``."""
    import mlflow
    from mlflow.entities import Metric, Param
    from mlflow.tracking.context.registry import resolve_tags

    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("public_code")
    run = client.create_run(experiment.experiment_id, tags=resolve_tags({"mlflow.runName": "lightning"}))
    client.log_batch(run.info.run_id, params=[Param("alpha", "1")])
    client.log_batch(run.info.run_id, metrics=[Metric("loss", 0.5, timestamp=0, step=0)])
    client.set_terminated(run.info.run_id, "FINISHED")


@task.mlflow
def trains_folds_in_threads() -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(train_fold, range(3)))


@task.mlflow
def trains_folds_in_forks() -> None:
    children = []
    for fold in range(4):
        if not (child := os.fork()):
            train_fold(fold)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


@task.mlflow
def trains_folds_in_loky() -> None:
    import joblib

    def train_fold(fold: int) -> None:  # a worker cannot import the functions of a DAG file
        import mlflow

        with mlflow.start_run(run_name=f"fold {fold}"):
            mlflow.log_param("fold", fold)

    joblib.Parallel(2)(joblib.delayed(train_fold)(fold) for fold in range(3))


@task.mlflow
def runs_two_programs() -> None:
    for rmse in (1, 2):
        subprocess.run([sys.executable, "-c", PROGRAM.format(rmse=rmse)], check=True)


@task.mlflow
def starts_a_run_for_others() -> str:
    import mlflow

    with mlflow.start_run(run_name="shared") as run:
        mlflow.log_param("step", "first")
    return run.info.run_id


@task.mlflow
def continues_the_run_of_another(shared_run_id: str) -> None:
    import mlflow

    with mlflow.start_run(run_id=shared_run_id):
        mlflow.log_metric("rmse", 0.5)


@task.mlflow(autolog={"log_models": False})
def fits_under_autolog() -> None:
    import mlflow
    from sklearn.linear_model import Ridge

    for alpha in (1.0, 2.0):
        with mlflow.start_run(run_name=f"alpha {alpha}"):
            Ridge(alpha=alpha).fit(FEATURES, PRICES)


@task
def uses_a_hook_in_a_plain_task() -> str:
    import mlflow

    with MLflowBaseHook().tracking():
        mlflow.set_experiment("public_code")
        for name in ("first", "second"):
            with mlflow.start_run(run_name=name) as run:
                mlflow.log_param("name", name)
    return run.info.run_id


@task.mlflow
def logs_its_result_to_an_old_run(old_run_id: str) -> None:
    import mlflow

    with mlflow.start_run(run_id=old_run_id):
        mlflow.log_metric("rmse", 0.7)
    mlflow.log_metric("difference", 0.1)


@task.mlflow
def runs_a_project() -> None:
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "MLproject").write_text(PROJECT)
        mlflow.projects.run(folder, parameters={"rmse": 0.5}, env_manager="local")
        subprocess.run(["mlflow", "run", folder, "-P", "rmse=0.6", "--env-manager", "local"], check=True)


@dag(schedule=None)
def public_code() -> None:
    loops_over_models()
    minimizes_an_objective()
    optimizes_with_optuna()
    logs_as_lightning_does()
    trains_folds_in_threads()
    trains_folds_in_forks()
    trains_folds_in_loky()
    runs_two_programs()
    shared_run_id = starts_a_run_for_others()
    continues_the_run_of_another(shared_run_id)
    fits_under_autolog()
    old_run_id = uses_a_hook_in_a_plain_task()
    logs_its_result_to_an_old_run(old_run_id)
    # Of several mlflow.set_experiment() that create the same experiment at once, MLflow lets one succeed.
    shared_run_id >> old_run_id
    runs_a_project()
    BashOperator(
        task_id="runs_bash_with_an_address",
        bash_command=f'python -c "{PROGRAM.format(rmse=3)}"',
        env={"MLFLOW_TRACKING_URI": "{{ conn.mlflow_default.host }}:{{ conn.mlflow_default.port }}"},
        append_env=True,
    )


public_code()
