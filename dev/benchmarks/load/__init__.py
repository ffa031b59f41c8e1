"""MLflow under load: ``make -C dev load``."""
