"""Kubernetes, on this machine: a cluster, and in it Airflow, a pod for each task, and MLflow."""

from dev.tests.executors.kubernetes.deployment import running

__all__ = ["running"]
