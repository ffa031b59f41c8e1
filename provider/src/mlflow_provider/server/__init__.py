"""The MLflow server: connection, login, REST, and what can be wrong on the way to it."""
