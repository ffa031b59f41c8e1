"""
## The hook: MLflow's API from any task

**Try it:**

1. Trigger this DAG for two neighborhoods, one after the other.
2. In [the experiment Housing](/mlflow/open/experiments/Housing), select the two runs named `Prices in ...`
   and press **Compare**.
3. Click `mean_price` under **Metrics** to plot both, year by year.

The tag `change` of the second run shows the differences in USD, and so does the log of `compare_profiles`.

**Exercise:** make `log_profile` also count the sales of each year.
`docs/tutorial/solutions.md` has a solution.

`MLflowClientHook` handles the address, the login, retries and error messages.
Use it for anything without an operator, and to build your own operators, such as `SetRunTagOperator`:

- `hook.call(...)` reaches every endpoint of [MLflow's REST
  API](https://mlflow.org/docs/latest/api_reference/rest-api.html);
- `hook.client` is MLflow's own
  [`MlflowClient`](https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html).
"""

import time

from airflow.sdk import BaseOperator, Param, dag, task
from pendulum import duration

from mlflow_provider.hooks.client import MLflowClientHook

MLFLOW_CONN_ID = "mlflow_default"
EXPERIMENT_NAME = "Housing"
RUN_NAME_PREFIX = "Prices in"

# The five neighborhoods with the most sales
NEIGHBORHOODS = ["North_Ames", "College_Creek", "Old_Town", "Edwards", "Somerset"]


class SetRunTagOperator(BaseOperator):
    """An operator of your own: set a tag of an MLflow run."""

    template_fields = ("run_id", "key", "value")

    def __init__(self, *, run_id: str, key: str, value: str, mlflow_conn_id: str = MLFLOW_CONN_ID, **kwargs):
        super().__init__(**kwargs)
        self.run_id, self.key, self.value = run_id, key, value
        self.mlflow_conn_id = mlflow_conn_id

    def execute(self, context) -> None:
        hook = MLflowClientHook(mlflow_conn_id=self.mlflow_conn_id)
        hook.call("POST", "runs/set-tag", {"run_id": self.run_id, "key": self.key, "value": self.value})
        self.log.info("Set tag %s of run %s to %r", self.key, self.run_id, self.value)


@dag(
    schedule=None,  # runs only when you trigger it
    default_args={"owner": "mlflow-tutorial", "retries": 2, "retry_delay": duration(seconds=10)},
    params={"neighborhood": Param(NEIGHBORHOODS[0], enum=NEIGHBORHOODS, title="Neighborhood")},
    doc_md=__doc__,
    tags=["mlflow", "hook"],
)
def mlflow_hook_dag():  # the DAG ID: rename it in a copy of this file
    @task
    def log_profile(params) -> str:
        """Log the mean and median prices of a neighborhood per year, and return the run ID."""
        import mlflow

        from include.housing import TARGET, load_housing

        housing = load_housing()
        sales = housing[housing["neighborhood"] == params["neighborhood"]]
        by_year = sales.groupby("year_sold")[TARGET].agg(mean_price="mean", median_price="median")  # USD

        timestamp = time.time_ns() // 1_000_000  # milliseconds
        metrics = [
            {"key": name, "value": value, "step": int(year), "timestamp": timestamp}
            for name, values in by_year.items()
            for year, value in values.items()
        ]

        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        experiment_id = hook.get_or_create_experiment(EXPERIMENT_NAME)
        run_name = f"{RUN_NAME_PREFIX} {params['neighborhood']}"
        # The hook also points the mlflow package at the server. This block ends the run, even after an error.
        with hook.tracking(), mlflow.start_run(experiment_id=experiment_id, run_name=run_name) as run:
            mlflow.log_param("neighborhood", params["neighborhood"])
            # One request for all years; mlflow.log_metrics would send one per year.
            hook.call("POST", "runs/log-batch", {"run_id": run.info.run_id, "metrics": metrics})
            return run.info.run_id

    @task
    def compare_profiles(mlflow_run_id: str) -> str:
        """Compare a profile with the previous one and return the differences, which Airflow also logs."""
        hook = MLflowClientHook(mlflow_conn_id=MLFLOW_CONN_ID)
        current = hook.get_run(mlflow_run_id)
        # DAG runs may overlap, so search for the run before this one, not for the newest two.
        previous_runs = hook.search_runs(
            [current["info"]["experiment_id"]],
            f"attributes.run_name LIKE '{RUN_NAME_PREFIX} %' AND attributes.status = 'FINISHED' "
            f"AND attributes.start_time < {current['info']['start_time']}",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not previous_runs:
            return "none, this is the first profile"

        [previous] = previous_runs
        new, old = get_metrics(current), get_metrics(previous)
        changes = [f"{name} {new[name] - old[name]:+,.0f} USD" for name in sorted(new.keys() & old.keys())]
        return f"{', '.join(changes)}, compared with {previous['info']['run_name']}"

    def get_metrics(run: dict) -> dict[str, float]:
        return {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}

    run_id = log_profile()
    SetRunTagOperator(task_id="tag_profile", run_id=run_id, key="change", value=compare_profiles(run_id))


mlflow_hook_dag()
