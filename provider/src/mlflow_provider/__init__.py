"""MLflow from Apache Airflow: hooks and operators for tracking and the model registry."""

TYPE_CHECKING = False  # not imported from typing: this package imports nothing
if TYPE_CHECKING:
    from mlflow_provider.tracked_run.open_runs import close_open_runs
    from mlflow_provider.tracked_run.task_run import task_run

__version__ = "2.0.0"
__all__ = ["close_open_runs", "task_run"]

_MODULES = {"close_open_runs": "open_runs", "task_run": "task_run"}


def __getattr__(name: str) -> object:
    # When asked for: Airflow reads this package before it is ready, and the SDK takes a second to import.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.tracked_run.{_MODULES[name]}"), name)
