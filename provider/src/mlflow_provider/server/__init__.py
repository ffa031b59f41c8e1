"""Everything that talks to the MLflow server: connection, login, REST, limits and findings."""
