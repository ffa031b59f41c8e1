"""The regressors that the pipeline trains, by their names in the trigger dialog.

A DAG file can import this module at its top, because scikit-learn is imported only when a function is called.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin

LINEAR: Final = ("ridge", "lasso")
TREES: Final = ("gradient_boosting", "random_forest")


def make_grid(
    regressors: Iterable[str], alphas: Iterable[float], depths: Iterable[int], trees: int
) -> list[dict[str, Any]]:
    """Return the arguments of :func:`make_regressor` for each valid combination.

    :param regressors: names from :data:`LINEAR` and :data:`TREES`.
    :param alphas: regularization strengths, for linear regressors.
    :param depths: maximum depths of a tree, for ensembles of trees.
    :param trees: number of trees in an ensemble.
    """
    linear = [{"alpha": alpha} for alpha in alphas]
    ensembles = [{"max_depth": depth, "n_estimators": trees} for depth in depths]
    return [
        {"regressor": name, **parameters}
        for name in regressors
        for parameters in (linear if name in LINEAR else ensembles)
    ]


def make_regressor(regressor: str, **parameters: Any) -> RegressorMixin:
    """Return an unfitted regressor with a fixed random state.

    :param regressor: name in the trigger dialog.
    :param parameters: arguments of the scikit-learn class.
    """
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import Lasso, Ridge

    classes = {
        "ridge": Ridge,
        "lasso": Lasso,
        "gradient_boosting": GradientBoostingRegressor,
        "random_forest": RandomForestRegressor,
    }
    return classes[regressor](random_state=0, **parameters)


def describe(regressor: str, **parameters: Any) -> str:
    """Return a readable name for the configuration, such as ``ridge, alpha=10``."""
    return ", ".join([regressor, *(f"{name}={value}" for name, value in parameters.items())])
