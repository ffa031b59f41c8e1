"""What Airflow loads besides a provider: pages about MLflow in its UI, and a policy for DAGs."""
