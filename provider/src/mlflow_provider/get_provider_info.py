"""What Airflow asks of a provider package; see ``provider_info.schema.json`` in Airflow.

Airflow calls this before its configuration is ready, so nothing is imported here.
"""


def get_provider_info() -> dict:
    """Return the provider's metadata: its connection type, hooks and operators."""
    return {
        "package-name": "airflow-provider-mlflow",
        "name": "MLflow",
        "description": "`MLflow <https://mlflow.org/>`__ tracking and model registry",
        "integrations": [
            {
                "integration-name": "MLflow",
                "external-doc-url": "https://mlflow.org/docs/latest/",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {
                "integration-name": "MLflow",
                "python-modules": ["mlflow_provider.hooks.base", "mlflow_provider.hooks.client"],
            }
        ],
        "operators": [
            {
                "integration-name": "MLflow",
                "python-modules": [
                    "mlflow_provider.operators.experiment",
                    "mlflow_provider.operators.registry",
                ],
            }
        ],
        "connection-types": [
            {
                "connection-type": "mlflow",
                "hook-class-name": "mlflow_provider.hooks.client.MLflowClientHook",
                "hook-name": "MLflow",
            }
        ],
    }
