"""The same mapped task four times: plain, with ``mlflow`` by hand, tracked, and tracked below a parent."""

from airflow.sdk import DAG, Connection, Param, task


def metric(index: int) -> float:
    """Compute what each of them logs."""
    return 1 / (index + 1)


@task
def indices(params):
    return list(range(params["tasks"]))


@task
def plain(index):
    metric(index)


@task
def by_hand(index):
    import mlflow

    connection = Connection.get("mlflow_default")
    mlflow.set_tracking_uri(f"{connection.host}:{connection.port}")
    mlflow.set_experiment("By hand")
    with mlflow.start_run(run_name=f"by_hand[{index}]"):
        mlflow.log_metric("rmse", metric(index))


@task.mlflow(experiment="Tracked")
def tracked(index):
    import mlflow

    mlflow.log_metric("rmse", metric(index))


@task.mlflow(experiment="Nested", nested=True)
def nested(index):
    import mlflow

    mlflow.log_metric("rmse", metric(index))


def sweep(kind):
    """Map the task over as many indices as the DAG run's params say."""
    with DAG(f"sweep_{kind.function.__name__}", schedule=None, params={"tasks": Param(32, type="integer")}):
        kind.expand(index=indices())


for kind in plain, by_hand, tracked, nested:
    sweep(kind)
