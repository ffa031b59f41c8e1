"""A DAG that shows which programs a task finds on its PATH, and which Python @task.virtualenv uses."""

from airflow.sdk import dag, task


@dag(schedule=None)
def programs():
    @task.bash
    def find() -> str:
        return "echo $(command -v python mlflow uv)"

    @task.virtualenv
    def base_of_python() -> str:
        import sys

        return sys.base_prefix

    find()
    base_of_python()


programs()
