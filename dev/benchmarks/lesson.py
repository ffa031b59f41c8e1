"""Run the lesson about @task.mlflow in this process, and print its seconds; ``stack.py`` runs this.

``script`` calls the functions of its tasks, each in a run of its own, as people do without Airflow;
``test`` runs the DAG by ``dag.test()``. What it imports counts, but for Airflow's SDK.
"""

from __future__ import annotations

import sys
import time

from dags.mlflow_task_dag import EXPERIMENT_NAME, mlflow_task_dag


def run_as_script() -> None:
    """Do what the tasks do, with the ``mlflow`` package alone."""
    import mlflow

    dag = mlflow_task_dag()
    train, evaluate = (dag.get_task(name).python_callable for name in ("train", "evaluate"))
    mlflow.set_experiment(EXPERIMENT_NAME)
    with mlflow.start_run(run_name="Train"):
        model_id = train(params={"fail": False}, ti=None)
    with mlflow.start_run(run_name="Evaluate"):
        evaluate(model_id)


def main(way: str) -> None:
    """Run it that way."""
    began = time.perf_counter()
    if way == "script":
        run_as_script()
    elif mlflow_task_dag().test().state != "success":
        sys.exit("The lesson failed.")
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(sys.argv[1])
