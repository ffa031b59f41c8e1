"""The path under which Airflow serves the plugin's pages."""

from urllib.parse import urlsplit

from airflow.configuration import conf

# Airflow itself may be served under a path.
AIRFLOW_PATH = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
PREFIX = "/mlflow"
