"""The provider's metadata is valid for Airflow and matches the package."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import airflow
import jsonschema
import pytest

import mlflow_provider
from mlflow_provider.get_provider_info import get_provider_info
from mlflow_provider.server.connection import DEFAULT_RETRY_TIMEOUT_SECONDS, DEFAULT_TIMEOUT_SECONDS


def test_metadata_is_valid_against_airflows_schema():
    schema = Path(airflow.__file__).with_name("provider_info.schema.json")

    jsonschema.validate(get_provider_info(), json.loads(schema.read_text()))


def test_metadata_names_the_installed_distribution():
    assert version(get_provider_info()["package-name"]) == mlflow_provider.__version__


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_metadata_lists_every_module(kind):
    package = importlib.import_module(f"mlflow_provider.{kind}")
    modules = {f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)}
    listed = {name for entry in get_provider_info()[kind] for name in entry["python-modules"]}

    internal = {"hooks.wrapping", "operators.base", "operators.metric_rule", "triggers.cursor"}
    assert listed == modules - {f"mlflow_provider.{name}" for name in internal}


def test_connection_type_leads_to_its_hook():
    [connection_type] = get_provider_info()["connection-types"]
    module, name = connection_type["hook-class-name"].rsplit(".", 1)

    hook_class = getattr(importlib.import_module(module), name)

    assert hook_class.conn_type == connection_type["connection-type"] == "mlflow"


def test_connection_form_shows_the_defaults():
    [connection_type] = get_provider_info()["connection-types"]
    fields = connection_type["conn-fields"]

    assert fields["timeout"]["schema"]["default"] == DEFAULT_TIMEOUT_SECONDS
    assert fields["retry_timeout"]["schema"]["default"] == DEFAULT_RETRY_TIMEOUT_SECONDS


def test_metadata_imports_nothing():
    code = (
        "import sys; loaded = set(sys.modules); import mlflow_provider.get_provider_info; "
        "print(sorted(set(sys.modules) - loaded))"
    )

    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert process.stdout.strip() == "['mlflow_provider', 'mlflow_provider.get_provider_info']"
