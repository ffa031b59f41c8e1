"""Where Airflow serves the plugin's pages."""

from urllib.parse import urlsplit

from airflow.configuration import conf

# Airflow may be served below a path of its own.
AIRFLOW_PATH = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
PREFIX = "/mlflow"
