"""How requests to MLflow log in: one small class for each method, and one that chooses among them.

A program that a task starts also imports this package, so it imports neither Airflow nor ``mlflow``.
"""
