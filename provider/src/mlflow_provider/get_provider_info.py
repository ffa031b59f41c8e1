"""The provider's metadata for Airflow; see ``provider_info.schema.json`` in Airflow.

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
                    "enabled": {
                        "description": "Whether to use MLflow. If false, the functions of @task.mlflow run "
                        "untracked, with a line in the log, hooks and operators raise an error, and Airflow "
                        "shows no MLflow pages.\n",
                        "version_added": "2.0.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    },
                    "ui_urls": {
                        "description": "Addresses of MLflow servers for browsers: a JSON object that maps "
                        "the address for workers to the address for browsers. It applies if the connection's "
                        "Extra has no ui_url.\n",
                        "version_added": "2.0.0",
                        "type": "string",
                        "example": '{"http://mlflow:5000": "http://localhost:5001"}',
                        "default": "",
                    },
                    "instance": {
                        "description": "Name that distinguishes this Airflow from others that log to the "
                        "same MLflow server. It must be the same in all components. The default is a hash "
                        "of [api] base_url and [core] fernet_key.\n",
                        "version_added": "2.0.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    },
                    "on_local_tracking_uri": {
                        "description": "What a task does when it starts a run while the tracking URI is a "
                        "database or folder on the worker's disk: warn in its log, fail, or ignore it.\n",
                        "version_added": "2.0.0",
                        "type": "string",
                        "example": "fail",
                        "default": "warn",
                    },
                    "close_open_runs": {
                        "description": "Whether DAGs with @task.mlflow close MLflow runs that are still "
                        "open at the end of a DAG run.\n",
                        "version_added": "2.0.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    },
                    "preload": {
                        "description": "Comma-separated modules that are imported once for all tasks, by the "
                        "process that forks them: the scheduler with LocalExecutor, or a Celery worker.\n",
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
                        "host": "http://localhost:5000, a Databricks workspace, or a SageMaker ARN",
                        "port": "5000; required by Airflow 3.3",
                        "login": "user name, client ID or the word token; empty if no login is required",
                        "password": "password, client secret or access token",
                    },
                },
                # Stored in Extra under these names, which mlflow_provider.server.connection reads.
                "conn-fields": {
                    "ui_url": {
                        "label": "UI address",
                        "description": "Address of MLflow for browsers, if it differs from Host.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "artifact_conn_id": {
                        "label": "Artifact connection",
                        "description": "ID of an AWS, Google Cloud or Azure connection, if workers access "
                        "the artifact store directly. Empty if the MLflow server proxies artifacts.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "registry_uri": {
                        "label": "Registry",
                        "description": "Address of another MLflow server with the same login, if models are "
                        "registered there. On Databricks: databricks or databricks-uc.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "workspace": {
                        "label": "Workspace",
                        "description": "Workspace (MLflow 3.10 or later), if it is not the server's default.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "auth": {
                        "label": "Login method",
                        "description": "google, azure, or an MLflow request-auth provider on the worker, "
                        "e.g. kubernetes. Empty for Login and Password.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "token_url": {
                        "label": "Token URL",
                        "description": "OAuth: where client ID (Login) and secret (Password) get a token.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "token_file": {
                        "label": "Token file",
                        "description": "Path on the worker of a file whose token another program renews.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "scope": {
                        "label": "Scope",
                        "description": "Scope of the token, with a token URL or Login method azure.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "audience": {
                        "label": "Audience",
                        "description": "Audience of the token, with a token URL or Login method google.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "verify": {
                        "label": "Verify TLS",
                        "description": "true, false, or the path of a CA bundle on the worker.",
                        "schema": {"type": ["string", "null"], "default": "true"},
                    },
                    "client_cert": {
                        "label": "Client certificate",
                        "description": "Path on the worker of a PEM file with certificate and key.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "timeout": {
                        "label": "Timeout",
                        "description": "Seconds in which a response must be complete.",
                        "schema": {"type": ["number", "null"], "default": 120},
                    },
                    "retry_timeout": {
                        "label": "Retry timeout",
                        "description": "Seconds to retry while the server is down, busy or failing.",
                        "schema": {"type": ["number", "null"], "default": 60},
                    },
                },
            }
        ],
    }
