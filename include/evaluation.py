"""Evaluate a model on sales that it was not trained on.

A DAG file can import this module at its top, because scikit-learn is imported only when a function is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include import figures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def compute_errors(actual: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Return two errors in USD, RMSE and MAE, and the coefficient of determination, by name.

    :param actual: actual prices in USD.
    :param predicted: predicted prices of the same sales in USD.
    """
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "test_rmse": root_mean_squared_error(actual, predicted),
        "test_mae": mean_absolute_error(actual, predicted),
        "test_r2": r2_score(actual, predicted),
    }


def draw_figures(model: Any, features: pd.DataFrame, actual: pd.Series) -> dict[str, Figure]:
    """Return three figures of the model's predictions, by file name.

    :param model: a fitted scikit-learn estimator.
    :param features: features of sales that the model was not trained on.
    :param actual: their actual prices in USD.
    """
    from sklearn.inspection import permutation_importance

    predicted = model.predict(features)
    importance = permutation_importance(
        model, features, actual, scoring="neg_root_mean_squared_error", n_repeats=3, random_state=0
    ).importances_mean
    return {
        "predicted_against_actual.png": figures.predicted_against_actual(actual, predicted),
        "residuals.png": figures.residuals(
            actual, predicted, features["living_area"], "Living area (square feet)"
        ),
        "importance.png": figures.feature_importance(list(features.columns), importance),
    }
