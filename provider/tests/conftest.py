"""Plugins for all tests of the provider."""

pytest_plugins = [
    "isolation",
    "mlflow_servers",
    "mlflow_proxy",
    "hostile_server",
    "faults",
    "databricks_stand_in",
    "identity_provider",
]
