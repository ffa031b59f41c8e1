"""Find out why artifacts get lost, from where tasks run."""

from airflow.sdk import dag, task

from mlflow_provider.doctor import examine


@dag(schedule=None, catchup=False, doc_md=__doc__, tags=["example", "mlflow"])
def example_mlflow_doctor():
    @task
    def run_checks(ti=None):
        results = list(examine("mlflow_default", task_instance=ti))
        print(*results, sep="\n")
        if failed := [result for result in results if result.status == "failed"]:
            raise RuntimeError(failed[0].sentence)

    run_checks()


example_mlflow_doctor()
