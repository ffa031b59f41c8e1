"""MLflow from Apache Airflow: hooks and operators for tracking and the model registry.

DAGs import from these modules:

- ``mlflow_provider.decorators.mlflow``: ``@task.mlflow``, a function in its own MLflow run
- ``mlflow_provider.operators``: common actions on experiments, models, versions and deployments
- ``mlflow_provider.hooks``: MLflow's REST API and its Python package, with an Airflow connection
- ``mlflow_provider.sensors``, ``mlflow_provider.triggers``: new model versions and moved aliases
- ``mlflow_provider.links.mlflow``: the buttons on a task instance
- ``mlflow_provider.exceptions``: all errors

Tasks and operators without the decorator use ``task_run`` and ``close_open_runs`` from this package.
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
