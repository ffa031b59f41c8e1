"""A DAG that shows which programs a task finds on its PATH."""

from airflow.sdk import dag, task


@dag(schedule=None)
def programs():
    @task.bash
    def find() -> str:
        return "echo $(command -v python mlflow uv)"

    find()


programs()
