"""MLflow from Apache Airflow: hooks and operators for tracking and the model registry.

What a DAG imports, by what it is for:

- ``mlflow_provider.decorators.mlflow``: ``@task.mlflow``, a function in an MLflow run of its own
- ``mlflow_provider.operators``: a common action each, on experiments, models, versions and deployments
- ``mlflow_provider.hooks``: MLflow's REST API and its Python package, with an Airflow connection
- ``mlflow_provider.sensors``, ``mlflow_provider.triggers``: a new model version, or a moved alias
- ``mlflow_provider.links.mlflow``: the buttons on a task instance
- ``mlflow_provider.exceptions``: what all of it raises

and for tasks and operators without the decorator ``task_run`` and ``close_open_runs``, below.
"""

TYPE_CHECKING = False  # not imported from typing: this package imports nothing
if TYPE_CHECKING:
    from mlflow_provider.tracking.open_runs import close_open_runs
    from mlflow_provider.tracking.task_run import task_run

__version__ = "2.0.0"
__all__ = ["close_open_runs", "task_run"]

_MODULES = {"close_open_runs": "open_runs", "task_run": "task_run"}


def __getattr__(name: str) -> object:
    # Imported late: Airflow reads this package before it is ready, and the SDK takes a second to import.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.tracking.{_MODULES[name]}"), name)
