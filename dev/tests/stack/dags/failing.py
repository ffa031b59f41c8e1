"""A DAG whose first task fails, so that its second task never starts."""

from airflow.sdk import DAG, task


@task
def breaks_down() -> None:
    raise RuntimeError("out of order")


@task
def never_starts() -> None:
    pass


with DAG("failing", schedule=None):
    breaks_down() >> never_starts()
