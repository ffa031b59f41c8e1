"""
## The hook: MLflow's API from any task

**Try it:** trigger the DAG for two neighborhoods, one after the other. In [MLflow](/mlflow/open), select
the two runs named `Prices in ...` under *Model training > Experiments > Housing*, and press *Compare*;
there, a click on `mean_price` below *Metrics* draws both, year by year. The log of `compare_profiles`
says how far they are apart.

**Exercise:** make `log_profile` count the sales of each year as well.

`MLflowClientHook` knows the server, the login, when to try again, and how to report an error. Use it for
what no operator does, and to build operators of your own:

- `hook.call(...)` reaches every endpoint of [MLflow's REST
  API](https://mlflow.org/docs/latest/api_reference/rest-api.html);
- `hook.client` is MLflow's own
  [`MlflowClient`](https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html).
"""

import time

from airflow.sdk import Param, dag, task
from pendulum import duration

from mlflow_provider.hooks.client import MLflowClientHook

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"
RUN_NAME = "Prices in"

# The five with the most sales
NEIGHBORHOODS = ["North_Ames", "College_Creek", "Old_Town", "Edwards", "Somerset"]


@dag(
    schedule=None,  # runs when you press play
    default_args={"owner": "mlflow-tutorial", "retries": 2, "retry_delay": duration(seconds=10)},
    params={"neighborhood": Param(NEIGHBORHOODS[0], enum=NEIGHBORHOODS, title="Neighborhood")},
    doc_md=__doc__,
    tags=["mlflow", "hook"],
)
def mlflow_hook_dag():  # the DAG's ID: a copy of this file needs another
    # @task.mlflow starts the run, and ends it also if this fails half-way; the hook fills it.
    @task.mlflow(
        mlflow_conn_id=MLFLOW_CONN_ID,
        experiment=EXPERIMENT_NAME,
        run_name=f"{RUN_NAME} {{{{ params.neighborhood }}}}",
    )
    def log_profile(params) -> str:
        """Log what houses of a neighborhood cost, year by year, and hand on the run's ID."""
        import mlflow

        from include.housing import TARGET, load_housing

        housing = load_housing()
        sales = housing[housing["neighborhood"] == params["neighborhood"]]
        by_year = sales.groupby("year_sold")[TARGET].agg(mean_price="mean", median_price="median")  # USD

        mlflow.log_param("neighborhood", params["neighborhood"])
        run_id = mlflow.active_run().info.run_id
        now = time.time_ns() // 1_000_000
        metrics = [
            {"key": name, "value": value, "step": int(year), "timestamp": now}
            for name, values in by_year.items()
            for year, value in values.items()
        ]
        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        # One request for all years; mlflow.log_metrics sends one for each.
        hook.call("POST", "runs/log-batch", {"run_id": run_id, "metrics": metrics})
        return run_id

    @task
    def compare_profiles(mlflow_run_id: str) -> dict[str, float]:
        """Compare a profile with the one before; return the differences in USD."""
        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        current = hook.get_run(mlflow_run_id)
        # DAG runs may overlap: look for what came before this run, not for the newest two.
        earlier = hook.search_runs(
            [current["info"]["experiment_id"]],
            f"attributes.run_name LIKE '{RUN_NAME} %' AND attributes.status = 'FINISHED' "
            f"AND attributes.start_time < {current['info']['start_time']}",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not earlier:
            print("This is the first profile. Run the DAG again, for another neighborhood, to compare two.")
            return {}

        new, old = metrics_of(current), metrics_of(earlier[0])
        changes = {name: new[name] - old[name] for name in new.keys() & old.keys()}
        print(f"{current['info']['run_name']}, compared with {earlier[0]['info']['run_name']}: {changes} USD")
        return changes

    def metrics_of(run: dict) -> dict[str, float]:
        return {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}

    compare_profiles(log_profile())


mlflow_hook_dag()
