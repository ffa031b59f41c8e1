"""Users of Airflow who may read some DAGs only, with real logins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.api_fastapi import app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session


class AuthManagerByDag(SimpleAuthManager):
    """Lets users read the DAGs that their name lists."""

    def is_authorized_dag(self, *, user: SimpleAuthManagerUser, details: Any = None, **kwargs: Any) -> bool:
        asked_for = details.id if details else None
        return asked_for is None or asked_for in user.username.split(",")


@pytest.fixture(scope="session")
def _airflow_database() -> None:
    initdb()
    with create_session() as session:
        session.add(DagBundleModel(name="tests"))


@pytest.fixture
def login(_airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """A function that creates DAGs and returns the headers of a user who may read only these.

    A browser sends a cookie instead, which Airflow 3.1.0 does not accept.
    """
    monkeypatch.setenv(
        "AIRFLOW__API_AUTH__JWT_ISSUER", "airflow"
    )  # Airflow 3.1 has none, which PyJWT rejects
    monkeypatch.setattr(app, "get_auth_manager_cls", lambda: AuthManagerByDag)
    auth_manager = app.init_auth_manager()

    def login(*dag_ids: str) -> dict[str, str]:
        with create_session() as session:
            for dag_id in dag_ids:
                session.merge(DagModel(dag_id=dag_id, bundle_name="tests", fileloc=""))
        user = SimpleAuthManagerUser(username=",".join(dag_ids), role="VIEWER")
        return {"Authorization": f"Bearer {auth_manager.generate_jwt(user)}"}

    return login
