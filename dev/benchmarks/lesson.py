"""Run the lesson about @task.mlflow in this process and print the duration in seconds, for ``stack.py``.

``script`` calls the task functions, each in its own run, like a program without Airflow.
``test`` runs the DAG with ``dag.test()``.
Imports count, except Airflow's SDK.
"""

from __future__ import annotations

import sys
import time

from dags.mlflow_task_dag import EXPERIMENT_NAME, mlflow_task_dag


def run_as_script() -> None:
    """Do what the tasks do, with only the ``mlflow`` package."""
    import mlflow

    dag = mlflow_task_dag()
    train, evaluate = (dag.get_task(name).python_callable for name in ("train", "evaluate"))
    mlflow.set_experiment(EXPERIMENT_NAME)
    with mlflow.start_run(run_name="Train"):
        model_id = train(params={"fail": False}, ti=None)
    with mlflow.start_run(run_name="Evaluate"):
        evaluate(model_id)


def main(method: str) -> None:
    """Run the lesson and print its duration."""
    start = time.perf_counter()
    if method == "script":
        run_as_script()
    elif mlflow_task_dag().test().state != "success":
        sys.exit("The lesson failed.")
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1])
