"""Two tasks that return the state of their processes before their own code ran."""

import os
import sys
from typing import Any

from airflow.sdk import DAG, task

HAD_MLFLOW = "mlflow" in sys.modules


@task
def look() -> dict[str, Any]:
    import random

    import mlflow
    import numpy as np

    state = {
        "had_mlflow": HAD_MLFLOW,
        "process": os.getpid(),
        "random": random.random(),
        "numpy": float(np.random.random()),
        "tracking_uri": mlflow.get_tracking_uri(),
        "variables": sorted(name for name in os.environ if name.startswith("MLFLOW_")),
    }
    mlflow.set_tracking_uri("http://set-by-a-task.example")
    return state


with DAG("preload", schedule=None):
    look.override(task_id="first")() >> look.override(task_id="second")()
