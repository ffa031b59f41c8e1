"""Tells this Airflow from others that log to the same MLflow server.

Two deployments with the same DAG, e.g. one to develop and one for production, have DAG runs of the same ID
for each scheduled date. So the tags by which a run is found again hold a name that only this deployment has.
"""

from __future__ import annotations

import time
import uuid

from airflow.sdk import Variable

# In Airflow's database, which all parts of a deployment share, and no two deployments. What is configured may
# be the same in two, as the address of Airflow is on two laptops.
VARIABLE = "mlflow_deployment"

# How long a task waits for others that are choosing a name at this moment, once in the life of a deployment.
CHOICE_SECONDS = 1.0


def name() -> str:
    """Return this deployment's name; an empty one if no task has needed it yet."""
    return Variable.get(VARIABLE, default="")


def get_or_create_name() -> str:
    """Return this deployment's name; the first task that asks chooses one at random."""
    if known := name():
        return known
    Variable.set(VARIABLE, uuid.uuid4().hex[:8], "Tells the runs of this Airflow from others' in MLflow.")
    time.sleep(CHOICE_SECONDS)  # the last one to write has chosen
    return name()
