"""MLflow as many use it, measured: ``make load``."""
