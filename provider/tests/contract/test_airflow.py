"""Airflow lists the provider, offers its connection type, and tests its connections."""

from __future__ import annotations

import json
import subprocess
import sys

import airflow
import pytest
from airflow.models.connection import Connection
from airflow.providers_manager import ProvidersManager

import mlflow_provider
from mlflow_provider.hooks.client import MLflowClientHook

# Airflow's own connection test still calls it, as of 3.3.
pytestmark = pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")


def test_airflow_lists_the_provider():
    command = [sys.executable, "-m", "airflow", "providers", "list", "--output", "json"]

    process = subprocess.run(command, capture_output=True, text=True, check=True)

    listed = {
        entry["package_name"]: entry["version"] for entry in json.loads(process.stdout.splitlines()[-1])
    }
    assert listed["airflow-provider-mlflow"] == mlflow_provider.__version__


def test_airflow_offers_the_connection_type():
    hook = ProvidersManager().hooks["mlflow"]

    assert hook is not None
    assert (hook.hook_name, hook.package_name) == ("MLflow", "airflow-provider-mlflow")
    assert (hook.connection_id_attribute_name, hook.connection_testable) == ("mlflow_conn_id", True)


@pytest.mark.skipif(airflow.__version__.startswith("3.1."), reason="3.1 shows Extra as JSON")
def test_airflow_offers_the_fields_of_the_connection_form():
    manager = ProvidersManager()

    assert "extra__mlflow__artifact_conn_id" in manager.connection_form_widgets
    assert "schema" in manager.field_behaviours["mlflow"]["hidden_fields"]


@pytest.mark.parametrize("is_correct", [True, False])
def test_the_forms_test_button_is_truthful(mlflow_auth_server, monkeypatch, is_correct):
    fields = mlflow_auth_server.connection | ({} if is_correct else {"password": "wrong"})
    connection = Connection(conn_id="from_the_form", conn_type="mlflow", extra='{"timeout": 30}', **fields)
    # As in the API server.
    monkeypatch.setenv("AIRFLOW_CONN_FROM_THE_FORM", connection.get_uri())

    works, message = connection.test_connection()

    assert isinstance(connection.get_hook(), MLflowClientHook)
    assert works is is_correct, message
    assert ("accepts this login" in message) is is_correct
