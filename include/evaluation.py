"""How good a model is on sales that it was not trained on: figures to compare by, and figures to look at.

A DAG file may import this module at its top: scikit-learn is imported when a function is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include import figures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def compute_errors(actual: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Return metrics of the predictions by name: two errors in USD, and the coefficient of determination.

    :param actual: prices paid, USD.
    :param predicted: prices predicted for the same sales, USD.
    """
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "test_rmse": root_mean_squared_error(actual, predicted),
        "test_mae": mean_absolute_error(actual, predicted),
        "test_r2": r2_score(actual, predicted),
    }


def draw_figures(model: Any, features: pd.DataFrame, actual: pd.Series) -> dict[str, Figure]:
    """Return figures of what the model does, by file name.

    :param model: a fitted estimator of scikit-learn.
    :param features: of sales that it was not trained on.
    :param actual: the prices paid for them, USD.
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
