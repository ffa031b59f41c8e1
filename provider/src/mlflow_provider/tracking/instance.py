"""Distinguish this Airflow from others on the same MLflow server.

Two Airflow instances with the same DAG, e.g. one for development and one for production, have DAG runs of the
same ID for each scheduled date. So the tags that find a run again contain a name that only this instance has.
"""

from __future__ import annotations

import hashlib

from airflow.providers.common.compat.sdk import conf


def name() -> str:
    """Return Airflow's setting ``[mlflow] instance``; by default a hash that differs between instances.

    The default is made from the address of the API server and the Fernet key, which all components of an
    instance share, and two laptops do not.
    """
    if name := conf.get("mlflow", "instance", fallback=""):
        return name
    fernet_key = conf.get("core", "fernet_key", fallback="")
    if "{" in fernet_key:  # Airflow's template, where no key is configured
        fernet_key = ""
    base_url = conf.get("api", "base_url", fallback="")
    return hashlib.sha256(f"{base_url} {fernet_key}".encode()).hexdigest()[:8]
