"""What every test of the provider may use."""

pytest_plugins = ["isolation", "mlflow_servers", "mlflow_proxy", "faults"]
