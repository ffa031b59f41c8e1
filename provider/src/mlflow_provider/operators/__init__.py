"""Operators: one common action on MLflow each."""
