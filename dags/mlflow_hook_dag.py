"""
## The hook: MLflow's API from any task

`MLflowClientHook` knows the server, the login, when to try again, and how to report an error. Use it for
what no operator does, and to build operators of your own:

- `hook.call(...)` reaches every endpoint of [MLflow's REST API](https://mlflow.org/docs/latest/api_reference/rest-api.html);
- `hook.client` is MLflow's own
  [`MlflowClient`](https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html).

This DAG watches the data that models are trained on: each DAG run logs a profile of it as an MLflow run,
and compares it with the one before.

**Try it:** run the DAG twice, then read the log of `compare_profiles`. In [MLflow](/mlflow/open),
select two runs named `Data profile` under *Experiments > Housing* and press *Compare*.

**Exercise:** make `log_profile` count the sales of each year as well.
"""

from airflow.sdk import dag, task
from pendulum import duration

from mlflow_provider.hooks.client import MLflowClientHook

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"
RUN_NAME = "Data profile"


@dag(
    schedule=None,  # runs when you press play
    catchup=False,
    default_args={"owner": "mlflow-tutorial", "retries": 2, "retry_delay": duration(seconds=10)},
    doc_md=__doc__,
    tags=["mlflow", "hook"],
)
def mlflow_hook_dag():
    @task(multiple_outputs=True)
    def log_profile() -> dict[str, str]:
        """Log figures of the housing data as a run, and hand on where it is."""
        from include.housing import TARGET, load_housing

        housing = load_housing()
        profile = {
            "rows": len(housing),
            "missing_values": housing.isna().sum().sum(),
            "neighborhoods": housing["neighborhood"].nunique(),
            "mean_price": housing[TARGET].mean(),
            "median_price": housing[TARGET].median(),
        }

        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        experiment_id = hook.get_or_create_experiment(EXPERIMENT_NAME)
        run_id = hook.client.create_run(experiment_id, run_name=RUN_NAME).info.run_id
        for name, value in profile.items():
            hook.client.log_metric(run_id, name, float(value))
        hook.client.set_terminated(run_id)
        return {"experiment_id": experiment_id, "mlflow_run_id": run_id}

    @task
    def compare_profiles(experiment_id: str, mlflow_run_id: str) -> dict[str, float]:
        """Compare this profile with the one before; return what changed, and by how much."""
        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        search = {
            "experiment_ids": [experiment_id],
            "filter": f"run_name = '{RUN_NAME}' and status = 'FINISHED'",
            "order_by": ["start_time DESC"],
            "max_results": 1000,
        }
        runs = hook.call("POST", "runs/search", search)["runs"]
        # DAG runs may overlap: look for what came before this run, not for the newest two.
        ids = [run["info"]["run_id"] for run in runs]
        current, *earlier = runs[ids.index(mlflow_run_id) :]
        if not earlier:
            print("This is the first profile. Run the DAG again to compare two.")
            return {}

        new, old = (metrics_of(run) for run in (current, earlier[0]))
        changes = {name: new[name] - old.get(name, 0.0) for name in new if new[name] != old.get(name)}
        print(f"Compared with run {earlier[0]['info']['run_id']}: {changes or 'nothing changed'}.")
        return changes

    def metrics_of(run: dict) -> dict[str, float]:
        return {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}

    profile = log_profile()
    compare_profiles(profile["experiment_id"], profile["mlflow_run_id"])


mlflow_hook_dag()
