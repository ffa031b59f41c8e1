"""Tells this Airflow from others that log to the same MLflow server.

Two deployments with the same DAG, e.g. one to develop and one for production, have DAG runs of the same ID
for each scheduled date. So the tags by which a run is found again hold a name that only this deployment has.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress

from airflow.sdk import Variable

# In Airflow's database, which all parts of a deployment share, and no two deployments. What is configured may
# be the same in two, as the address of Airflow is on two laptops.
VARIABLE = "mlflow_deployment"
DESCRIPTION = "Tells the runs of this Airflow from others' in MLflow."

# How long a task waits for others that are choosing a name at this moment: as long as Airflow by default
# waits for the answer to their request.
CHOICE_SECONDS = 5.0


def name() -> str:
    """Return this deployment's name; an empty one if none was chosen yet."""
    return Variable.get(VARIABLE, default="")


def choose_name() -> None:
    """Give this deployment a random name, if it has none: in a scheduler, which may use Airflow's database.

    Of several that do so at the same time, the database takes the first one's.
    """
    from airflow.models.variable import Variable as ServerVariable
    from airflow.utils.session import create_session
    from sqlalchemy.exc import IntegrityError

    if not ServerVariable.get(VARIABLE, None):
        with suppress(IntegrityError), create_session() as session:
            session.add(ServerVariable(VARIABLE, _random_name(), DESCRIPTION))


def get_or_create_name() -> str:
    """Return this deployment's name. If no scheduler has chosen one, the first task that asks does.

    A task can only write, also over what another has written since it looked, so it waits for these.
    """
    if known := name():
        return known
    Variable.set(VARIABLE, _random_name(), DESCRIPTION)
    time.sleep(CHOICE_SECONDS)  # the last one to write has chosen
    return name()


def _random_name() -> str:
    return uuid.uuid4().hex[:8]
