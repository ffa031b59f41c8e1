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
                "python-modules": [
                    "mlflow_provider.hooks.base",
                    "mlflow_provider.hooks.client",
                    "mlflow_provider.hooks.deployment",
                    "mlflow_provider.hooks.pyfunc",
                ],
            }
        ],
        "operators": [
            {
                "integration-name": "MLflow",
                "python-modules": [
                    "mlflow_provider.operators.deployment",
                    "mlflow_provider.operators.experiment",
                    "mlflow_provider.operators.promotion",
                    "mlflow_provider.operators.pyfunc",
                    "mlflow_provider.operators.registry",
                ],
            }
        ],
        "sensors": [
            {"integration-name": "MLflow", "python-modules": ["mlflow_provider.sensors.registry"]},
        ],
        "triggers": [
            {"integration-name": "MLflow", "python-modules": ["mlflow_provider.triggers.registry"]},
        ],
        "task-decorators": [
            {"name": "mlflow", "class-name": "mlflow_provider.decorators.mlflow.mlflow_task"}
        ],
        "extra-links": [
            "mlflow_provider.links.mlflow.MLflowRunLink",
            "mlflow_provider.links.mlflow.MLflowExperimentLink",
            "mlflow_provider.links.mlflow.MLflowModelVersionLink",
        ],
        "config": {
            "mlflow": {
                "description": "Settings of the MLflow provider.",
                "options": {
                    "ui_urls": {
                        "description": "Where a browser finds MLflow servers: a JSON object that maps the "
                        "address of a server as workers reach it to the address that a browser uses. It "
                        "counts where the connection's Extra has no ui_url.\n",
                        "version_added": "2.0.0",
                        "type": "string",
                        "example": '{"http://mlflow:5000": "http://localhost:5001"}',
                        "default": "",
                    },
                    "instance": {
                        "description": "Name that distinguishes this Airflow from others that log to the "
                        "same MLflow server. It has to be the same in all components. By default it is a "
                        "hash of [api] base_url and [core] fernet_key.\n",
                        "version_added": "2.0.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    },
                    "close_open_runs": {
                        "description": "Whether DAGs with @task.mlflow end, when a DAG run ends, MLflow runs "
                        "that are still open.\n",
                        "version_added": "2.0.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    },
                    "preload": {
                        "description": "Modules, comma separated, that the process which forks the tasks "
                        "imports once at its start, so that tasks need not: the scheduler with "
                        "LocalExecutor, or a Celery worker.\n",
                        "version_added": "2.0.0",
                        "type": "string",
                        "example": "mlflow, pandas, sklearn",
                        "default": "",
                    },
                },
            },
        },
        "connection-types": [
            {
                "connection-type": "mlflow",
                "hook-class-name": "mlflow_provider.hooks.client.MLflowClientHook",
                "hook-name": "MLflow",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "placeholders": {
                        "host": "http://localhost:5000, or a Databricks workspace's address",
                        "port": "5000; fill it in: Airflow 3.3 refuses an empty one",
                        "login": "user name, or the word token; empty for a server without login",
                        "password": "password, or an access token",
                    },
                },
                # Kept in Extra under these names, which mlflow_provider.server.connection reads.
                "conn-fields": {
                    "ui_url": {
                        "label": "UI address",
                        "description": "Where a browser finds MLflow, if not at Host.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "artifact_conn_id": {
                        "label": "Artifact connection",
                        "description": "ID of an AWS or MinIO connection, where workers reach the artifact "
                        "store themselves. Empty where the MLflow server passes artifacts on.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "registry_uri": {
                        "label": "Registry",
                        "description": "Where models are registered, if not at Host: the address of another "
                        "MLflow server with the same login. On Databricks: databricks or databricks-uc.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "workspace": {
                        "label": "Workspace",
                        "description": "Workspace of MLflow 3.10 or later, if not the server's default one.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "verify": {
                        "label": "Verify TLS",
                        "description": "true, false, or the path of a CA bundle on the worker.",
                        "schema": {"type": ["string", "null"], "default": "true"},
                    },
                    "timeout": {
                        "label": "Timeout",
                        "description": "Seconds to wait for an answer.",
                        "schema": {"type": ["number", "null"], "default": 120},
                    },
                    "retries": {
                        "label": "Retries",
                        "description": "How often to try again when the server is down, busy or failing.",
                        "schema": {"type": ["integer", "null"], "default": 4},
                    },
                },
            }
        ],
    }
