"""How ``ModelLoadAndPredictOperator`` applies a model to data."""
