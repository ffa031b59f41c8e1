"""Logging a scikit-learn model to MLflow, whatever its type.

A DAG file may import this module at its top: mlflow and skops are imported when the function is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models.model import ModelInfo
    from sklearn.base import BaseEstimator


def log_model(model: BaseEstimator, inputs: pd.DataFrame, name: str = "model") -> ModelInfo:
    """Log a fitted regressor, classifier or transformer to the active MLflow run.

    :param model: to get it back: ``mlflow.sklearn.load_model(model_uri)``.
    :param inputs: rows such as it was fitted on, for its signature: the columns, and their types.
    :param name: what MLflow's pages call it.
    """
    import mlflow
    import skops.io

    function = "predict" if hasattr(model, "predict") else "transform"
    return mlflow.sklearn.log_model(
        model,
        name=name,
        signature=mlflow.models.infer_signature(inputs, getattr(model, function)(inputs)),
        pyfunc_predict_fn=function,  # MLflow warns of a model without it
        # skops, the format that MLflow chooses, loads only types it is told to trust, such as the trees of a
        # forest. This model was made here, so all of its types are.
        skops_trusted_types=skops.io.get_untrusted_types(data=skops.io.dumps(model)),
        # Without these, MLflow loads the model in a new process to see what it imports: five seconds.
        pip_requirements=mlflow.sklearn.get_default_pip_requirements(include_skops=True),
    )
