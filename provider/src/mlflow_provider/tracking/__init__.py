"""The MLflow run of a task instance: how it starts, ends, and finds its parent."""
