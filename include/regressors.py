"""The regressors that the pipeline tries: from the choices in the trigger dialog to scikit-learn.

A DAG file may import this module at its top: scikit-learn is imported when a function is called.
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
    """Return a configuration for :func:`make_regressor` for each combination that makes sense.

    :param regressors: names of :data:`LINEAR` and :data:`TREES`.
    :param alphas: how strongly to regularize; tried with each linear regressor.
    :param depths: how deep a tree may be; tried with each ensemble of trees.
    :param trees: how many trees an ensemble has.
    """
    linear = [{"alpha": alpha} for alpha in alphas]
    ensembles = [{"max_depth": depth, "n_estimators": trees} for depth in depths]
    return [
        {"regressor": name, **parameters}
        for name in regressors
        for parameters in (linear if name in LINEAR else ensembles)
    ]


def make_regressor(regressor: str, **parameters: Any) -> RegressorMixin:
    """Return the regressor, not fitted yet; the same data make the same of it every time.

    :param regressor: its name in the trigger dialog.
    :param parameters: of scikit-learn's class.
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
    """Return the configuration as a name for people: ``ridge, alpha=10``."""
    return ", ".join([regressor, *(f"{name}={value}" for name, value in parameters.items())])
