"""Log scikit-learn models of any type to MLflow.

A DAG file can import this module at its top, because mlflow and skops are imported only when the function is
called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models.model import ModelInfo
    from sklearn.base import BaseEstimator


def log_model(model: BaseEstimator, inputs: pd.DataFrame, name: str = "model") -> ModelInfo:
    """Log a fitted regressor, classifier or transformer to the active MLflow run.

    :param model: the fitted model; load it with ``mlflow.sklearn.load_model(model_uri)``.
    :param inputs: rows like the training data; their columns and types become the model's signature.
    :param name: the model's name on MLflow's pages.
    """
    import mlflow
    import skops.io

    function = "predict" if hasattr(model, "predict") else "transform"
    # MLflow's default format, skops, loads only types that are listed as trusted. This model was trained
    # here, so trust all of its types, such as the trees of a forest.
    trusted_types = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    return mlflow.sklearn.log_model(
        model,
        name=name,
        signature=mlflow.models.infer_signature(inputs, getattr(model, function)(inputs)),
        pyfunc_predict_fn=function,  # MLflow's default is predict, which transformers lack
        skops_trusted_types=trusted_types,
        # Without these, MLflow spends five seconds on loading the model in a new process to infer them.
        pip_requirements=mlflow.sklearn.get_default_pip_requirements(include_skops=True),
    )
