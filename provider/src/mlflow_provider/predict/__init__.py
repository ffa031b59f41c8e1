"""Loading a model and applying it to data, for ``ModelLoadAndPredictOperator``."""
